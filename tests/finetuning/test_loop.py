from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.finetuning import objective
from v2w_convert.finetuning.batches import BatchSamples
from v2w_convert.finetuning.conditions import Clips
from v2w_convert.finetuning.latents import cached_latents
from v2w_convert.finetuning.loop import averaged_loss, prepare, train_step
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.progress import no_progress
from v2w_convert.world.model import World
from v2w_convert.world.vae import open_vae

SETTINGS = FinetuneSettings(batch=4, frames=6, lr=1e-3, warmup=0, weight_decay=0)


@pytest.fixture(scope="module")
def clips(tiny_data: Path, tiny_converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Clips:
    cache = tmp_path_factory.mktemp("cache")
    return Clips(
        cached_latents(
            open_dataset(tiny_data), tiny_converted, cache, open_vae(tiny_converted), 6, no_progress
        )
    )


def steps(world: World, clips: Clips, settings: FinetuneSettings, count: int) -> dict[str, Tensor]:
    """The base's tensors after `count` steps."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=settings.gradient_accumulation)
    training = prepare(world, settings, accelerator)
    for step in range(count):
        train_step(world, training, clips, settings, accelerator, step)
    return {name: tensor.clone() for name, tensor in world.base.state_dict().items()}


def test_a_step_changes_all_that_it_should(world: World, clips: Clips) -> None:
    """Unchanged are what cannot matter, with one text token that is zero, and what waits for the last layer."""
    before = {name: tensor.clone() for name, tensor in world.base.state_dict().items()}
    after = steps(world, clips, SETTINGS, 1)
    text = {name for name in before if ".attn2." in name and not name.endswith(".to_out.0.bias")}
    silent = text | {name for name in before if ".norm2." in name and "transformer_blocks" in name}
    waiting = {
        f"time_embedding.v2w_action.{name}" for name in ("none", *_weights("first"), *_weights("middle"))
    }
    constant = {f"time_embedding.v2w_action.{name}" for name in ("center", "scale")}
    assert silent and {name for name in before if torch.equal(before[name], after[name])} == (
        silent | waiting | constant
    )
    later = steps(world, clips, SETTINGS, 1)  # from there
    assert {name for name in before if torch.equal(later[name], after[name])} == silent | constant


def _weights(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"


def test_accumulation_splits_the_memory_and_not_the_batch(
    world: World, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    whole = objective.loss

    def counted(world: World, latents: Tensor, *rest: object) -> Tensor:
        sizes.append(len(latents))
        return whole(world, latents, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(objective, "loss", counted)
    start = {name: tensor.clone() for name, tensor in world.base.state_dict().items()}
    # Without Adam's division, which would blow the rounding of small gradients up: one step's gradients.
    loss, at_once = gradients(world, clips, SETTINGS)
    world.base.load_state_dict(start)
    loss_in_parts, in_parts = gradients(
        world, clips, SETTINGS.model_copy(update={"gradient_accumulation": 2})
    )
    assert sizes == [4, 2, 2]
    assert loss_in_parts == pytest.approx(loss, rel=1e-5)
    for name, gradient in at_once.items():
        torch.testing.assert_close(in_parts[name], gradient, rtol=1e-3, atol=1e-6)


def gradients(world: World, clips: Clips, settings: FinetuneSettings) -> tuple[float, dict[str, Tensor]]:
    """The first step's loss, and what the optimizer was given for it without clipping."""
    seen: dict[str, Tensor] = {}
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=settings.gradient_accumulation)
    training = prepare(world, settings.model_copy(update={"max_gradient_norm": 1e9}), accelerator)

    def look(*_: object) -> None:
        seen.update((n, p.grad.clone()) for n, p in world.base.named_parameters() if p.grad is not None)

    training.optimizer.optimizer.register_step_pre_hook(look)  # type: ignore[attr-defined]
    loss, _ = train_step(
        world, training, clips, settings.model_copy(update={"max_gradient_norm": 1e9}), accelerator, 0
    )
    return loss, seen


def test_the_gradient_is_clipped(world: World, clips: Clips) -> None:
    settings = SETTINGS.model_copy(update={"max_gradient_norm": 1e-3})
    accelerator = Accelerator(cpu=True)
    training = prepare(world, settings, accelerator)
    norms = []

    def look(*_: object) -> None:
        norms.append(
            torch.cat([p.grad.flatten() for p in world.base.parameters() if p.grad is not None]).norm()
        )

    training.optimizer.optimizer.register_step_pre_hook(look)  # type: ignore[attr-defined]
    _, norm = train_step(world, training, clips, settings, accelerator, 0)
    assert norm > 0.1
    torch.testing.assert_close(norms, [torch.tensor(1e-3)], rtol=1e-3, atol=0)


def test_a_base_with_dropout_takes_the_same_step_again(world: World, clips: Clips) -> None:
    start = {name: tensor.clone() for name, tensor in world.base.state_dict().items()}
    block = world.base.get_submodule("mid_block")
    block.register_forward_hook(lambda _, __, output: nn.functional.dropout(output, 0.5))
    once = steps(world, clips, SETTINGS, 1)
    world.base.load_state_dict(start)
    torch.rand(7)
    again = steps(world, clips, SETTINGS, 1)
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_clips_grow_and_every_objective_takes_a_step(
    world: World, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FinetuneSettings(
        batch=2,
        frames=6,
        warmup=0,
        first_frames=2,
        growth_steps=2,
        levels="logit_normal",
        loss_weight="min_snr",
        self_history=0.5,
        clean_history=0.5,
    )
    lengths = []
    whole = objective.loss

    def counted(
        world: World, latents: Tensor, actions: Tensor, samples: BatchSamples, *rest: object
    ) -> Tensor:
        lengths.append((latents.shape[1], actions.shape[1], samples.noise.shape[1]))
        return whole(world, latents, actions, samples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(objective, "loss", counted)
    steps(world, clips, settings, 3)
    assert lengths == [(2, 2, 2), (4, 4, 4), (6, 6, 6)]


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_made(
    bad: str, world: World, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = Accelerator(cpu=True)
    training = prepare(world, SETTINGS, accelerator)
    before = {name: tensor.clone() for name, tensor in training.averaged().items()}
    whole = objective.loss

    def broken(*given: object) -> Tensor:
        value = whole(*given)  # type: ignore[arg-type]
        # The root of zero has an infinite slope, and its own value is in order.
        return value + torch.inf if bad == "loss" else value + (value - value.detach()).sqrt()

    monkeypatch.setattr(objective, "loss", broken)
    with pytest.raises(V2WError, match=rf"take step 1: its {bad}.* is (nan|inf).*lower learning rate"):
        train_step(world, training, clips, SETTINGS, accelerator, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in world.base.state_dict().items())


def test_validation_borrows_the_averaged_weights_and_gives_them_back(world: World, clips: Clips) -> None:
    accelerator = Accelerator(cpu=True)
    training = prepare(world, SETTINGS, accelerator)
    fixed = clips.read(clips.latents.spread(4))
    first = averaged_loss(world, training, *fixed, SETTINGS)
    trained = [p.detach().clone() for p in world.base.parameters()]
    with torch.no_grad():
        for parameter in world.base.parameters():
            parameter.zero_()
    assert averaged_loss(world, training, *fixed, SETTINGS) == first
    assert all(not p.any() for p in world.base.parameters())
    assert training.average is not None
    assert all(torch.equal(a, b) for a, b in zip(trained, training.average.values.values(), strict=True))


def test_a_loss_that_is_not_finite_names_its_clip(
    world: World, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch of four, in two parts, the last one's."""
    whole, chosen = objective.loss, []
    read = clips.latents.clips

    def clips_of(numbers: list[int]) -> tuple[Tensor, Tensor]:
        chosen.extend(numbers)
        return read(numbers)

    def loss(world: World, latents: Tensor, *rest: object) -> Tensor:
        bad = read(chosen[3:])[0]
        value = whole(world, latents, *rest)  # type: ignore[arg-type]
        return value * torch.nan if any(torch.equal(one, bad[0]) for one in latents) else value

    monkeypatch.setattr(clips.latents, "clips", clips_of)
    monkeypatch.setattr(objective, "loss", loss)
    settings = SETTINGS.model_copy(update={"gradient_accumulation": 2})
    with pytest.raises(V2WError) as caught:
        steps(world, clips, settings, 1)
    assert f"its loss is nan ({clips.place(chosen[3])}): " in str(caught.value)
    episode, start = clips.latents.locate(chosen[3])
    assert f"the data, episode {int(episode)}, latent frames {start} to {start + 5}" in str(caught.value)
