import torch
from diffusers.models.embeddings import Timesteps
from torch import nn

from v2w_convert.operations import FramePosition
from v2w_convert.sites import ForwardContext


def site(period: int | None) -> nn.Module:
    module = Timesteps(8, True, 0)
    FramePosition(at="x", period=period).install(module, "site", 0)
    return module


def test_the_invariant() -> None:
    for period in (None, 3):
        kept = FramePosition(at="x", period=period).check_invariants(
            Timesteps(8, True, 0), site(period), torch.Generator(), 0
        )
        assert [k.measured for k in kept] == [0.0]


def test_indices_go_on_with_the_stream_and_begin_again_after_the_period() -> None:
    base, module = Timesteps(8, True, 0), site(6)
    module.context = ForwardContext(b=2, t=3, cursor=torch.tensor(4))
    assert torch.equal(module(torch.zeros(6)), base(torch.tensor([4, 5, 0, 4, 5, 0])))
    module.context = ForwardContext(b=2, t=3, cursor=torch.tensor(0), offset=torch.tensor([1, 10]))
    assert torch.equal(module(torch.zeros(6)), base(torch.tensor([1, 2, 3, 4, 5, 0])))


def test_a_module_with_weights_is_refused() -> None:
    assert FramePosition(at="x").why_not(nn.Linear(1, 1)) is not None
