"""Random inputs for a world model, each with values of its own for every frame, and inputs that are changed at some frames."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from v2w_convert.operations import ReceptiveField
from v2w_convert.plan.call import Conditions, call_base
from v2w_convert.world.model import World

TOKENS = 3  # of a prompt, if the model accepts any number
MIN_FRAMES = 7  # unlike every height and width

Inputs = dict[str, Tensor]
"""Arguments of `World.forward`, each (b t …); conditions have one entry for each block, pictures one for each frame.
`offset` is (b,)."""
OTHERWISE: dict[str, Callable[[Tensor], Tensor]] = {"dropped": torch.logical_not, "offset": lambda x: x + 1}
"""How to change what is not drawn anew."""


LEAST_SIDE = 4  # of latents, in numbers


def latent_size(world: World, *, oblong: bool = False) -> tuple[int, int]:
    """Return h and w of the latents: small, different, so that swapped axes show, and divisible as often as the model halves them.

    Where that asks for longer sides than `LEAST_SIDE`, a square, which takes half the time, unless `oblong`: swapped axes are
    left to claims that ask for it, and to `manners.other_sizes`. Where positions in a frame are learned, the only size that
    the model takes (CogVideoX 5b I2V).
    """
    config = world.resolved.config
    if config.get("use_learned_positional_embeddings"):
        return config["sample_height"], config["sample_width"]
    levels = len(config.get("block_out_channels") or config.get("channel_mult", []))
    side = max(LEAST_SIDE, 2 ** (levels - 1))
    return side, 2 * side if oblong or side == LEAST_SIDE else side


def random_inputs(
    world: World,
    b: int,
    t: int,
    seed: int,
    *,
    size: tuple[int, int] | None = None,
    level: Tensor | None = None,
    dropped: Tensor | None = None,
    clean: Tensor | None = None,
) -> Inputs:
    """Return noisy frames at training's noise levels, actions, and every condition of the plan.

    Args:
        world: The world model.
        b: Clips.
        t: Frames, whole blocks.
        seed: Of the random numbers.
        size: h and w of the latents; None: `clean`'s, or `latent_size`.
        level: (b t), in place of training's.
        dropped: (b t) bool; None: in every second clip, every other frame's action.
        clean: Latents (b t c h w) to which noise is added, t or more frames; None: random ones.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(b, t, *shape, generator=generator)

    h, w = size or (latent_size(world) if clean is None else clean.shape[-2:])
    if level is None:
        level = world.noise.sample_training_levels((b, t), generator)
        level = level[:, :: world.frames_per_block]  # one for each block
        level = level.repeat_interleave(world.frames_per_block, 1)
    if dropped is None:
        dropped = (torch.arange(b)[:, None] % 2 == 1) & (torch.arange(t) % 2 == 1)
    if clean is None:
        clean = normal(world.channels, h, w)
    inputs = {
        "latents": world.noise.add_noise(clean[:, :t], normal(world.channels, h, w), level).to(world.dtype),
        "noise_level": level,
        "actions": normal(world.action_dim).to(world.dtype),
        "dropped": dropped,
    }
    blocks = t // world.frames_per_block
    for name, condition in world.resolved.call.conditions.items():
        shape = condition.shape(h, w, TOKENS)
        if condition.dtype == "float":
            entries = t if condition.is_per_frame else blocks
            sample = torch.randn(b, entries, *shape, generator=generator)
            inputs[name] = sample.to(world.dtype)
            continue
        value = condition.null(h, w, TOKENS).expand(b, blocks, *shape)
        if condition.has_tokens:  # a text mask: one of the tokens is padding, never the first
            gap = torch.randint(1, TOKENS, (b, blocks, 1), generator=generator)
            value = torch.ones_like(value).scatter(2, gap, 0)
        inputs[name] = value
    return inputs


def change_frames(
    inputs: Inputs,
    seed: int,
    world: World,
    kinds: Collection[str],
    frames: Tensor,
    others: Inputs | None = None,
) -> Inputs:
    """Return `inputs` with other values at some frames; with another `offset` in clips of which all frames change.

    Args:
        inputs: Arguments of `World.forward`.
        seed: Of the other values.
        world: The world model.
        kinds: The inputs that are changed.
        frames: (b t) bool, the frames at which they are changed: whole blocks, if an input has one entry for each block.
        others: Of the same shapes, the other values; None: plain random ones of that seed.
    """
    b, t = frames.shape
    if others is None:
        h, w = inputs["latents"].shape[-2:]
        others = random_inputs(world, b, t, seed, size=(h, w))
        others |= {kind: change(inputs[kind]) for kind, change in OTHERWISE.items() if kind in inputs}

    def marked(x: Tensor) -> Tensor:
        if x.ndim == 1:
            return frames.all(1)
        marks = frames[:, :: t // x.shape[1]]
        return marks.view(*marks.shape, *[1] * (x.ndim - 2))

    return {
        kind: torch.where(marked(x), others[kind], x) if kind in kinds else x for kind, x in inputs.items()
    }


def uniform(inputs: Inputs, world: World) -> Inputs:
    """Return `inputs` with the first frame's noise level and conditions for all frames: a base accepts one of each per clip.

    Pictures stay: a base accepts one for each frame.
    """
    own = {"latents", "actions", "dropped", *pictures(world)}
    return {kind: x if kind in own else x[:, :1].expand_as(x) for kind, x in inputs.items()}


def pictures(world: World) -> set[str]:
    """Return the names of the conditions of which every frame has its own: a stream receives them whole."""
    return {name for name, condition in world.resolved.call.conditions.items() if condition.is_per_frame}


def base_call(
    base: nn.Module, world: World, inputs: Inputs, conditions: Conditions | None = None
) -> Callable[[Tensor], Tensor]:
    """Return the base as a function of noisy latents (b t c h w).

    Args:
        base: The base, unchanged.
        world: The world model, whose noise kind is used.
        inputs: `uniform` ones, from which everything else is taken.
        conditions: In place of those of `inputs`.
    """
    level = inputs["noise_level"]
    conditions = conditions_of(inputs, world) if conditions is None else conditions

    def call(latents: Tensor) -> Tensor:
        given = world.noise.model_input(latents, level)
        timestep = world.noise.timestep(level)[:, 0]
        return call_base(base, world.resolved.call, given, timestep, conditions)

    return call


def conditions_of(inputs: Inputs, world: World) -> dict[str, Any]:
    """Return the conditions among `inputs`, the first block's for the whole clip, (b …), and the pictures of all frames."""
    whole = pictures(world)
    return {
        name: inputs[name] if name in whole else inputs[name][:, 0] for name in world.resolved.call.conditions
    }


def slice_of(inputs: Inputs, start: int, stop: int, world: World) -> Inputs:
    """Return frames `start` … `stop` - 1, whole blocks, and the pictures of all frames."""
    t, whole = inputs["latents"].shape[1], pictures(world)
    return {
        kind: x if kind in whole else x[:, start * x.shape[1] // t : stop * x.shape[1] // t]
        for kind, x in inputs.items()
    }


def first_tensor(output: Any) -> Tensor:
    """Return the first tensor of a module's output, which may be nested."""
    return next(x for x in tree_leaves(output) if isinstance(x, Tensor))


def sites_with_past(world: World) -> dict[str, ReceptiveField]:
    """Return the sites that should see earlier blocks by the plan, and which blocks."""
    return {name: field for name, field in world.receptive_fields().items() if field.sees_past}


def visible_blocks(world: World, t: int) -> Tensor:
    """Return which of t blocks (columns) at least one site should see for which block (row): (t t) bool, itself included."""
    visible = torch.eye(t, dtype=torch.bool)
    for field in sites_with_past(world).values():
        visible |= field.visible(t)
    return visible


def enough_frames(world: World) -> int:
    """Return the length of a clip: at least `MIN_FRAMES`, four blocks, and what every site needs to show its behaviour."""
    sites = world.resolved.sites.items()
    needed = [operation.min_frames(world.base.get_submodule(name)) for name, operation in sites]
    least = max([MIN_FRAMES, 4 * world.frames_per_block, *needed])
    return -(-least // world.frames_per_block) * world.frames_per_block
