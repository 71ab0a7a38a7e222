"""Manners: what clips are like in rollouts and in training, and what they may be like elsewhere.

Plain random inputs have levels of their own, values of about 1, actions. A rollout has clean frames before a noisy one, at
levels that all its clips share, perhaps no actions; training lets positions begin anywhere; latents may be large.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from v2w_convert.verification.engine.inputs import Inputs, latent_size, random_inputs
from v2w_convert.world.model import World

FAR = 1_000_000  # positions after the first
MAX_PICTURE = 64 * 64  # latent pixels of the largest picture that is measured

Levels = Literal["drawn", "mixed", "clean", "history", "one", "largest", "falling", "rising", "rollout"]
Dropped = Literal["some", "none", "all"]
Values = Literal["random", "negative", "still"]


class Manner(NamedTuple):
    """What one clip is like.

    Attributes:
        name: For the report.
        levels: "drawn" as in training; "mixed" with clean frames and the largest level among them; all "clean", at the
            level of "history", at "one" level, at the "largest" one; "falling" or "rising" along the clip; "rollout",
            history and then a noisy block.
        dropped: Which of the actions are.
        scale: Of all values: latents, actions and float conditions.
        values: "negative" latents and actions; "still", all frames the same and all actions zero.
        offset: Whether its positions begin anywhere in their period, or far away.
        given: Whether actions and conditions are given.
    """

    name: str
    levels: Levels = "drawn"
    dropped: Dropped = "some"
    scale: float = 1.0
    values: Values = "random"
    offset: bool = False
    given: bool = True


MIXED = Manner("levels from clean to noise", "mixed", offset=True)
HISTORY = Manner("history", "history", "none")
UNKNOWN = Manner("clean, actions dropped, values × 10", "clean", "all", 10, offset=True)
UNIFORM = (
    HISTORY,
    UNKNOWN,
    Manner("history and a noisy frame", "rollout", "none"),
    Manner("one level, no actions or conditions, values × 10", "one", scale=10, given=False),
    Manner("the largest level, values × 100", "largest", "all", 100, offset=True),
    Manner("falling levels, negative values", "falling", "none", values="negative"),
    Manner("rising levels, still, actions zero", "rising", "none", values="still"),
)
"""Manners that all clips of a pass share, as those of a rollout do."""


def as_stored(manner: Manner, dtype: torch.dtype) -> Manner:
    """Return the manner without large values, where they may not fit into `dtype`."""
    return manner._replace(scale=1.0) if dtype == torch.float16 else manner


def clips_in_manners(
    world: World,
    manners: Sequence[Manner],
    t: int,
    seed: int,
    size: tuple[int, int] | None = None,
    clean: Tensor | None = None,
) -> Inputs:
    """Return random inputs as `random_inputs`, each clip in its manner, and `offset` (b,) where any begins elsewhere.

    Actions and conditions are left out if no clip is given any.

    Args:
        world: The world model.
        manners: Of each clip.
        t: Frames, whole blocks.
        seed: Of the random numbers.
        size: h and w of the latents; None: `latent_size`.
        clean: Latents (b t c h w) in place of random ones.
    """
    b, n = len(manners), world.frames_per_block
    manners = [as_stored(manner, world.dtype) for manner in manners]
    generator = torch.Generator().manual_seed(seed + 1000)
    drawn = world.noise.sample_training_levels((b, t // n), generator)
    level = torch.stack([_levels(m, own, world, generator) for m, own in zip(manners, drawn, strict=True)])
    some = torch.rand(b, t, generator=generator) < 0.5
    shares = {"some": some, "none": torch.zeros_like(some), "all": torch.ones_like(some)}
    dropped = torch.stack([shares[manner.dropped][i] for i, manner in enumerate(manners)])
    inputs = random_inputs(
        world, b, t, seed, size=size, level=level.repeat_interleave(n, 1), dropped=dropped, clean=clean
    )
    for kind in ("latents", "actions"):
        inputs[kind] = torch.stack([_valued(x, kind, m) for x, m in zip(inputs[kind], manners, strict=True)])
    scale = torch.tensor([manner.scale for manner in manners])
    for kind in inputs.keys() - {"noise_level"}:
        if inputs[kind].is_floating_point():
            inputs[kind] = inputs[kind] * scale.to(inputs[kind]).view(-1, *[1] * (inputs[kind].ndim - 1))
    if any(manner.offset for manner in manners):
        begins = torch.randint(1, world.resolved.period or FAR, (b,), generator=generator)
        inputs["offset"] = begins * torch.tensor([manner.offset for manner in manners])
    if not any(manner.given for manner in manners):
        inputs = {kind: x for kind, x in inputs.items() if kind in ("latents", "noise_level", "offset")}
    return inputs


def _levels(manner: Manner, drawn: Tensor, world: World, generator: torch.Generator) -> Tensor:
    """The noise level of each block."""
    noise = world.noise
    clean, history, largest = (torch.full_like(drawn, x) for x in (0.0, noise.history_level, noise.max_level))
    match manner.levels:
        case "drawn":
            return drawn
        case "mixed":
            which = torch.rand(drawn.shape, generator=generator)
            return torch.where(which < 0.4, clean, torch.where(which < 0.6, largest, drawn))
        case "clean":
            return clean
        case "history":
            return history
        case "one":
            return drawn[:1].expand_as(drawn)
        case "largest":
            return largest
        case "falling":
            return drawn.sort(descending=True).values
        case "rising":
            return drawn.sort().values
        case "rollout":
            return torch.cat([history[:-1], drawn[-1:]])


def _valued(x: Tensor, kind: str, manner: Manner) -> Tensor:
    match manner.values:
        case "random":
            return x
        case "negative":
            return -x.abs()
        case "still":
            return x[:1].expand_as(x) if kind == "latents" else torch.zeros_like(x)


def other_sizes(world: World, brief: bool = False) -> list[tuple[int, int]]:
    """Return sizes h w of latents besides `latent_size`: upright, square, and the one that the base was trained on.

    That one only if its config says it, and if it is not too large to be measured.

    Args:
        world: The world model.
        brief: True for the first alone.
    """
    h, w = latent_size(world)
    config = world.resolved.config
    if config.get("use_learned_positional_embeddings"):
        return []  # the only one
    sizes = [(3 * h, w)]
    if not brief:
        own = trained_size(config)
        sizes.append((2 * w, 2 * w) if own is None or own[0] != own[1] else own)
        sizes += [] if own is None else [own]
    fitting = [size for size in sizes if size[0] % h == 0 and size[1] % h == 0]
    return [size for size in dict.fromkeys(fitting) if size[0] * size[1] <= MAX_PICTURE]


def trained_size(config: dict[str, object]) -> tuple[int, int] | None:
    """Return h and w of the latents that the base was trained on, where its config says them."""
    either = config.get("sample_size")
    h, w = config.get("sample_height") or either, config.get("sample_width") or either
    if isinstance(either, list | tuple) and len(either) == 2:
        h, w = either
    if isinstance(h, int) and isinstance(w, int):
        return h, w
    return None
