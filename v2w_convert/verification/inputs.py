"""Random inputs for a world, every one of them per frame, and inputs that are changed at some frames only."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from v2w_convert.operations import ReceptiveField
from v2w_convert.plan.call import Conditions, call_base
from v2w_convert.world.model import World

TOKENS = 3  # where a prompt has any number of them
FRAMES = 7  # at least; unlike every height and width

Inputs = dict[str, Tensor]  # arguments of World.forward, each (b t …)


def latent_size(world: World) -> tuple[int, int]:
    """h and w: small, unequal so that exchanged axes show, and divisible as often as the model halves them."""
    config = world.resolved.config
    levels = len(config.get("block_out_channels") or config.get("channel_mult", []))
    side = max(4, 2 ** (levels - 1))
    return side, 2 * side


def random_inputs(world: World, b: int, t: int, seed: int) -> Inputs:
    """Noisy frames at levels as in training, actions, and every condition that the plan knows.

    In the second clip every other frame's action is dropped.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(b, t, *shape, generator=generator)

    frame = (world.channels, *latent_size(world))
    level = world.noise.sample_training_levels((b, t), generator)
    level = level[:, :: world.frames_per_block].repeat_interleave(
        world.frames_per_block, 1
    )  # one for a block
    inputs = {
        "latents": world.noise.add_noise(normal(*frame), normal(*frame), level).to(world.dtype),
        "noise_level": level,
        "actions": normal(world.action_dim).to(world.dtype),
        "dropped": (torch.arange(b)[:, None] % 2 == 1) & (torch.arange(t) % 2 == 1),
    }
    blocks = t // world.frames_per_block
    for name, condition in world.resolved.call.conditions.items():
        size = (*latent_size(world), TOKENS)
        if condition.dtype == "float":
            drawn = torch.randn(b, blocks, *condition.shape(*size), generator=generator)
            inputs[name] = drawn.to(world.dtype)
            continue
        whole = condition.null(*size).expand(b, blocks, *condition.shape(*size))
        if condition.has_tokens:  # a text mask: one of the tokens is padding, never the first
            gap = torch.randint(1, TOKENS, (b, blocks, 1), generator=generator)
            whole = whole.scatter(2, gap, 0)
        inputs[name] = whole
    return inputs


def change_frames(inputs: Inputs, seed: int, world: World, kinds: Collection[str], frames: Tensor) -> Inputs:
    """`inputs` with other values of the given kinds at the frames that `frames` (b t) bool marks.

    Marks come in whole blocks wherever something is changed of which a block has one.
    """
    b, t = frames.shape
    others = random_inputs(world, b, t, seed) | {"dropped": ~inputs["dropped"]}

    def marked(x: Tensor) -> Tensor:
        marks = frames[:, :: t // x.shape[1]]
        return marks.view(*marks.shape, *[1] * (x.ndim - 2))

    return {
        kind: torch.where(marked(x), others[kind], x) if kind in kinds else x for kind, x in inputs.items()
    }


def uniform(inputs: Inputs) -> Inputs:
    """`inputs` with the first frame's noise level and conditions for all: a base takes one of each per clip."""
    own = ("latents", "actions", "dropped")
    return {kind: x if kind in own else x[:, :1].expand_as(x) for kind, x in inputs.items()}


def base_call(
    base: nn.Module, world: World, inputs: Inputs, conditions: Conditions | None = None
) -> Callable[[Tensor], Tensor]:
    """The untouched base as a function of noisy latents (b t c h w), all else from `uniform` inputs; or with `conditions`."""
    level = inputs["noise_level"]
    told = conditions_of(inputs, world) if conditions is None else conditions

    def call(latents: Tensor) -> Tensor:
        given = world.noise.model_input(latents, level)
        timestep = world.noise.timestep(level)[:, 0]
        return call_base(base, world.resolved.call, given, timestep, told)

    return call


def conditions_of(inputs: Inputs, world: World) -> dict[str, Any]:
    """The conditions among `inputs`, the first block's for the whole clip: (b …)."""
    return {name: inputs[name][:, 0] for name in world.resolved.call.conditions}


def slice_of(inputs: Inputs, start: int, stop: int) -> Inputs:
    """Frames `start` … `stop` - 1, whole blocks."""
    t = inputs["latents"].shape[1]
    return {kind: x[:, start * x.shape[1] // t : stop * x.shape[1] // t] for kind, x in inputs.items()}


def first_tensor(output: Any) -> Tensor:
    """Of what a module gives: a tensor, or a nest of them."""
    return next(x for x in tree_leaves(output) if isinstance(x, Tensor))


def past_seeing(world: World) -> dict[str, ReceptiveField]:
    """The sites that should see earlier blocks, and which, by the plan."""
    return {name: field for name, field in world.receptive_fields().items() if field.sees_past}


def due_blocks(world: World, t: int) -> Tensor:
    """Which of t blocks (rows) some site should see of which (columns), (t t) bool; themselves included."""
    due = torch.eye(t, dtype=torch.bool)
    for field in past_seeing(world).values():
        due |= field.visible(t)
    return due


def enough_frames(world: World) -> int:
    """FRAMES and at least four blocks, or as many as a site needs to show all that it does."""
    sites = world.resolved.sites.items()
    needed = [operation.min_frames(world.base.get_submodule(name)) for name, operation in sites]
    least = max([FRAMES, 4 * world.frames_per_block, *needed])
    return -(-least // world.frames_per_block) * world.frames_per_block
