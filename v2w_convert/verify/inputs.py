"""Random inputs for a world, every one of them per frame, and inputs that are changed at some frames only."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.operations import CausalAttention, CausalConv, Operation
from v2w_convert.plan.call import call_base, null, shape_of
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


def draw(world: World, b: int, t: int, seed: int) -> Inputs:
    """Noisy frames at levels as in training, actions, and every condition that the plan knows.

    In the second clip every other frame's action is dropped.
    """
    generator = torch.Generator().manual_seed(seed)
    call, config = world.resolved.plan.call, world.resolved.config

    def normal(*shape: int) -> Tensor:
        return torch.randn(b, t, *shape, generator=generator)

    frame = (world.channels, *latent_size(world))
    level = world.noise.draw((b, t), generator)
    inputs = {
        "latents": world.noise.add(normal(*frame), normal(*frame), level).to(world.dtype),
        "noise_level": level,
        "actions": normal(world.action_dim).to(world.dtype),
        "dropped": (torch.arange(b)[:, None] % 2 == 1) & (torch.arange(t) % 2 == 1),
    }
    for name, condition in call.given(config).items():
        size = (*latent_size(world), TOKENS)
        if condition.dtype == "float":
            inputs[name] = normal(*shape_of(call, name, config, *size)).to(world.dtype)
        else:  # a mask: all is given
            inputs[name] = null(call, name, config, *size).expand(b, t, *shape_of(call, name, config, *size))
    return inputs


def changed(inputs: Inputs, seed: int, world: World, kinds: Collection[str], frames: Tensor) -> Inputs:
    """`inputs` with other values of the given kinds at the frames that `frames` (b t) bool marks."""
    b, t = frames.shape
    others = draw(world, b, t, seed) | {"dropped": ~inputs["dropped"]}
    return {
        kind: torch.where(frames.view(b, t, *[1] * (x.ndim - 2)), others[kind], x) if kind in kinds else x
        for kind, x in inputs.items()
    }


def uniform(inputs: Inputs) -> Inputs:
    """`inputs` with the first frame's noise level and conditions for all: a base takes one of each per clip."""
    own = ("latents", "actions", "dropped")
    return {kind: x if kind in own else x[:, :1].expand_as(x) for kind, x in inputs.items()}


def base_call(base: nn.Module, world: World, inputs: Inputs) -> Callable[[Tensor], Tensor]:
    """The untouched base as a function of noisy latents (b t c h w), all else from `uniform` inputs."""
    level = inputs["noise_level"]
    planned, config = world.resolved.plan.call, world.resolved.config
    conditions = {name: inputs[name][:, 0] for name in planned.given(config)}

    def call(latents: Tensor) -> Tensor:
        given = world.noise.model_input(latents, level)
        timestep = world.noise.timestep(level)[:, 0]
        return call_base(base, planned, config, given, timestep, conditions)

    return call


def slice_of(inputs: Inputs, start: int, stop: int) -> Inputs:
    return {kind: x[:, start:stop] for kind, x in inputs.items()}


def past_seeing(world: World) -> dict[str, int | None]:
    """The sites that should see earlier frames, and how many of them, by the plan; None: all."""
    return {
        name: _reach(operation, world.base.get_submodule(name))
        for name, operation in world.resolved.sites.items()
        if operation.sees_past()
    }


def _reach(operation: Operation, module: nn.Module) -> int | None:
    if isinstance(operation, CausalConv):
        return _kernel(module) - 1
    if isinstance(operation, CausalAttention) and isinstance(operation.window, int):
        return operation.window - 1
    return None


def enough_frames(world: World) -> int:
    """FRAMES, or as many as the widest convolution needs."""
    sites = world.resolved.sites.items()
    convolutions = [world.base.get_submodule(name) for name, op in sites if isinstance(op, CausalConv)]
    return max([FRAMES, *(_kernel(module) + 1 for module in convolutions)])


def _kernel(convolution: Any) -> int:
    """Its taps in time."""
    return convolution.kernel_size[0]
