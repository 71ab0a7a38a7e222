import torch
from diffusers.models.embeddings import TimestepEmbedding
from torch import nn

from v2w_convert.operations import Action
from v2w_convert.operations.action import ActionSite
from v2w_convert.sites import ForwardContext

A, D, B, T = 3, 16, 2, 4


def site(zero: bool = False, n: int = 1) -> ActionSite:
    torch.manual_seed(0)
    module = TimestepEmbedding(8, D).double()
    operation = Action(at="x")
    shapes = operation.new_tensors(module, A, n)
    operation.install(module, "site", A, frames_per_block=n)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, shape in shapes.items():
            tensor = dict(module.named_parameters()) | dict(module.named_buffers())
            tensor[name].copy_(operation.initial_value(name, shape, generator))
        if not zero:
            nn.init.normal_(module.v2w_action.last.weight)
    module.double()
    assert isinstance(module, ActionSite)
    return module


def run(
    module: ActionSite, actions: torch.Tensor | None, dropped: torch.Tensor | None = None, cursor: int = 0
):
    n = module.v2w_action.first.in_features // A
    module.context = ForwardContext(B, T // n, torch.tensor(cursor), n)
    if actions is not None:
        module.context.actions = actions.unflatten(1, (T // n, n))
    if dropped is not None:
        module.context.dropped = dropped.unflatten(1, (T // n, n))
    level = torch.randn(B * T // n, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        return module(level).view(B, T // n, D)


def sample(seed: int) -> torch.Tensor:
    return torch.randn(B, T, A, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_before_training_no_action_has_an_effect() -> None:
    module = site(zero=True)
    assert torch.equal(run(module, sample(1)), run(module, sample(2)))
    assert torch.equal(run(module, sample(1)), run(module, None))


def test_an_action_moves_its_own_frame_only() -> None:
    module, actions = site(), sample(1)
    for t in range(1, T):
        other = actions.clone()
        other[:, t] += 1
        changed = (run(module, actions) != run(module, other)).any(-1)
        assert changed[:, t].all()
        assert changed.sum() == B


def test_nothing_led_to_the_first_frame_of_a_stream() -> None:
    module, actions = site(), sample(1)
    other = actions.clone()
    other[:, 0] += 1
    assert torch.equal(run(module, actions), run(module, other))
    assert not torch.equal(run(module, actions, cursor=5), run(module, other, cursor=5))


def test_no_action_is_not_the_zero_action() -> None:
    module, zero = site(), torch.zeros(B, T, A, dtype=torch.float64)
    none = run(module, None)
    assert (none != run(module, zero)).any(-1)[:, 1:].all()
    dropped = torch.ones(B, T, dtype=torch.bool)
    assert torch.equal(none, run(module, sample(1), dropped))
    dropped[:, 2] = False
    assert ((none != run(module, sample(1), dropped)).any(-1) == ~dropped).all()


def test_the_actions_of_a_block_go_together_each_in_its_place() -> None:
    module, actions = site(n=2), sample(1)
    before = run(module, actions)
    for t in range(1, T):
        other = actions.clone()
        other[:, t] += 1
        changed = (run(module, other) != before).any(-1)
        assert changed[:, t // 2].all()
        assert changed.sum() == B
    exchanged = actions[:, [0, 1, 3, 2]]
    assert (run(module, exchanged) != before)[:, 1].any()
    dropped = torch.zeros(B, T, dtype=torch.bool)
    dropped[:, 2] = True  # one of a block's actions is not known, the other is
    one, none = (
        run(module, actions, dropped),
        run(module, actions, dropped | torch.tensor([0, 0, 0, 1]).bool()),
    )
    assert (one != before).any(-1).tolist() == (none != one).any(-1).tolist() == [[False, True]] * B
    assert torch.equal(run(module, actions + torch.tensor([[1.0], [0], [0], [0]])), before)


def test_actions_are_normalised() -> None:
    module, actions = site(), sample(1)
    expected = run(module, actions)
    with torch.no_grad():
        module.v2w_action.center.copy_(torch.tensor([1.0, -2.0, 0.5]))
        module.v2w_action.scale.copy_(torch.tensor([2.0, 4.0, 0.5]))
    found = run(module, actions * module.v2w_action.scale + module.v2w_action.center)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
