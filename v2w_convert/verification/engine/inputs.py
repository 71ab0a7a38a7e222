"""Random inputs for a world, every one of them per frame, and inputs that are changed at some frames only."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from v2w_convert.operations import CausalAttention, CausalConv, Operation
from v2w_convert.plan.call import Conditions, call_base, condition_shape, null_condition
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
    call, config = world.resolved.plan.call, world.resolved.config

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
    for name, condition in call.active_conditions(config).items():
        size = (*latent_size(world), TOKENS)
        if condition.dtype == "float":
            drawn = torch.randn(b, blocks, *condition_shape(call, name, config, *size), generator=generator)
            inputs[name] = drawn.to(world.dtype)
            continue
        whole = null_condition(call, name, config, *size).expand(
            b, blocks, *condition_shape(call, name, config, *size)
        )
        if (
            set(condition.shape) & call.token_counts.keys()
        ):  # which tokens are words: one of them is none, never the first
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
    planned, config = world.resolved.plan.call, world.resolved.config
    told = conditions_of(inputs, world) if conditions is None else conditions

    def call(latents: Tensor) -> Tensor:
        given = world.noise.model_input(latents, level)
        timestep = world.noise.timestep(level)[:, 0]
        return call_base(base, planned, config, given, timestep, told)

    return call


def conditions_of(inputs: Inputs, world: World) -> dict[str, Any]:
    """The conditions among `inputs`, the first block's for the whole clip: (b …)."""
    return {
        name: inputs[name][:, 0] for name in world.resolved.plan.call.active_conditions(world.resolved.config)
    }


def slice_of(inputs: Inputs, start: int, stop: int) -> Inputs:
    """Frames `start` … `stop` - 1, whole blocks."""
    t = inputs["latents"].shape[1]
    return {kind: x[:, start * x.shape[1] // t : stop * x.shape[1] // t] for kind, x in inputs.items()}


def first_tensor(output: Any) -> Tensor:
    """Of what a module gives: a tensor, or a nest of them."""
    return next(x for x in tree_leaves(output) if isinstance(x, Tensor))


def past_seeing(world: World) -> dict[str, "Reach"]:
    """The sites that should see earlier blocks, and which, by the plan."""
    reaches = {
        name: _reach(operation, world.base.get_submodule(name), world.frames_per_block)
        for name, operation in world.resolved.sites.items()
        if operation.sees_past()
    }
    return {name: reach for name, reach in reaches.items() if reach != Reach(0)}


class Reach(NamedTuple):
    """How many blocks back a site sees (None: all), and how many of the first blocks of all besides."""

    back: int | None
    first: int = 0

    def due(self, t: int) -> Tensor:
        """Which of t blocks (rows) should see which (columns), (t t) bool; themselves included."""
        index = torch.arange(t)
        near = index >= index[:, None] - (t if self.back is None else self.back)
        return (index <= index[:, None]) & (near | (index < self.first))


def due_blocks(world: World, t: int) -> Tensor:
    """Which of t blocks (rows) some site should see of which (columns), (t t) bool; themselves included."""
    due = torch.eye(t, dtype=torch.bool)
    for reach in past_seeing(world).values():
        due |= reach.due(t)
    return due


def _reach(operation: Operation, module: nn.Module, n: int) -> Reach:
    if isinstance(operation, CausalConv):
        return Reach(-(-(_kernel(module) - 1) // n))
    if isinstance(operation, CausalAttention) and isinstance(operation.window, int):
        return Reach(operation.window // n - 1, operation.sinks // n)
    return Reach(None)


def enough_frames(world: World) -> int:
    """FRAMES and at least four blocks, or as many as the widest convolution needs."""
    sites = world.resolved.sites.items()
    convolutions = [world.base.get_submodule(name) for name, op in sites if isinstance(op, CausalConv)]
    least = [FRAMES, 4 * world.frames_per_block, *(_kernel(module) + 1 for module in convolutions)]
    return -(-max(least) // world.frames_per_block) * world.frames_per_block


def _kernel(convolution: Any) -> int:
    """Its taps in time."""
    return convolution.kernel_size[0]
