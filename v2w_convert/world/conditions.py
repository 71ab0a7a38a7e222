"""Conditions as a caller gives them -> as the base receives them, block by block."""

from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.plan.condition import ResolvedCondition
from v2w_convert.sites import ForwardContext, frame_indices

ASKED = "call the world model"


def fold_condition(
    value: Tensor, name: str, condition: ResolvedCondition, now: ForwardContext, h: int, w: int
) -> Tensor:
    """A condition for every block of a pass.

    Args:
        value: Given once per clip (b …) or once per block of the pass (b t …). A picture for every frame: once per clip
            (b c h w), or for the frames from the stream's first one on (b T c h w).
        name: Its name.
        condition: The plan's.
        now: The pass.
        h: Height of the latents.
        w: Width of the latents.

    Returns:
        ((b t) …); of pictures ((b t) n c h w), n frames to a block.

    Raises:
        V2WError: The shape is another, or what is given once differs from frame to frame.
    """
    if condition.is_per_frame:
        return _pictures(value, name, condition, now, condition.shape(h, w))
    shape, given = condition.shape(h, w), tuple(value.shape)
    if value.ndim == len(shape) + 1:
        value = value[:, None].expand(-1, now.t, *value.shape[1:])
    if tuple(value.shape[:2]) != (now.b, now.t) or not condition.accepts(tuple(value.shape[2:]), h, w):
        unit = "frames" if now.frames_per_block == 1 else "blocks"
        raise V2WError(
            ASKED,
            f"{name} is {given} for {now.b} clips of {now.t} {unit}",
            f"(b …) or (b t …) with {shape} for each"
            + (", any number of tokens" if condition.has_tokens else ""),
        )
    return value.flatten(0, 1)


def first_frame(value: Tensor) -> Tensor:
    """The stream's first picture (b c h w), of one given once (b c h w) or for each frame (b T c h w)."""
    return value if value.ndim == 4 else value[:, 0]


def _pictures(
    value: Tensor, name: str, condition: ResolvedCondition, now: ForwardContext, shape: tuple[int, ...]
) -> Tensor:
    given, per_frame = tuple(value.shape), value.ndim == 5
    if given[0] != now.b or given[1 + per_frame :] != shape or 0 in given:
        raise V2WError(
            ASKED, f"{name} is {given} for {now.b} clips", f"(b …) or (b T …) with {shape} for each"
        )
    if not per_frame and condition.later_frames == "own":
        raise V2WError(
            ASKED,
            f"{name} is given once for a clip, and every frame has its own",
            "one for each frame (b T …): the plan's image_conditions makes them of the first picture",
        )
    frames = condition.at_frames(value, frame_indices(now).flatten())
    blocks: Tensor = frames.unflatten(1, (now.t, now.frames_per_block)).flatten(0, 1)
    return blocks
