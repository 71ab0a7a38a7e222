"""Does the pipeline's autoencoder look ahead in time? Figures: a model can be finetuned all the same, but its user must know.

Where `encode` does, latents of a recorded clip hold traces of pictures to come, which a player's latents cannot. Where `decode`
does, a picture is only finished once the latents after it are there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.verification.claim import Claim, figure, not_measured
from v2w_convert.verification.module import influence
from v2w_convert.world.vae import VAE, open_vae

WAYS = ("encode", "decode")
LATENTS = 3  # frames
SIDES = (32, 64, 128, 256)  # pixels; the first that the autoencoder takes
NAMED = 5  # modules


def autoencoder(folder: Path) -> tuple[list[Claim], dict[str, Any] | None]:
    """The claims, and the figure: `class`, `packing`, and of `encode` and `decode` how much of each input frame (column) is in
    each output frame (row), `later` (a share of the largest) and `modules` that look ahead. None if there is none to measure.
    """
    if not (folder / "vae" / "config.json").is_file():
        return _unmeasured("no autoencoder lies beside the model"), None
    try:
        pixels = open_vae(folder)
    except V2WError as error:
        return _unmeasured(error.found), None
    name = type(pixels.autoencoder).__name__
    figures: dict[str, Any] = {"class": name, "packing": str(pixels.packing)}
    if pixels.single:
        how = f"by construction: the {name} codes picture by picture"
        claims = [figure(f"autoencoder-{way}", 0.0, "", how) for way in WAYS]
        return claims, figures | {way: {"influence": None, "later": 0.0, "modules": []} for way in WAYS}
    try:
        seen = both_ways(pixels)
    except (RuntimeError, ValueError) as error:
        return _unmeasured(
            f"the {name} takes none of the pictures tried ({' '.join(str(error).split())[:120]})"
        ), None
    claims = []
    for way, found in seen.items():
        figures[way] = {"influence": found.effect.tolist(), "later": found.later, "modules": found.modules}
        claims.append(
            figure(
                f"autoencoder-{way}",
                found.later,
                ", ".join(found.modules[:NAMED]),
                f"share of the largest effect of any frame; {name}, {pixels.packing}, {LATENTS} latent frames, float64. "
                + _consequence(way, found),
            )
        )
    return claims, figures


@dataclass(frozen=True)
class Seen:
    """effect   (outputs inputs) float64: the largest change of one by the other
    later    the largest effect of what comes later, over the largest of all
    modules  that look ahead by themselves, with their classes, in the order of the run
    """

    effect: Tensor
    later: float
    modules: list[str]


@torch.no_grad()
def both_ways(pixels: VAE) -> dict[str, Seen]:
    """`encode` and `decode` on a small drawn clip. The autoencoder is float64 afterwards.

    Raises RuntimeError or ValueError if it takes pictures of no size in SIDES.
    """
    model, packing = pixels.autoencoder.to(torch.float64), pixels.packing
    t = packing.frames(LATENTS)
    pictures, latents = _clip(pixels, t)
    missing = packing.k - 1 if packing.alone else 0
    of_picture = (torch.arange(t) + missing) // packing.k  # the latent frame that each goes into
    later = {
        "encode": of_picture > torch.arange(LATENTS)[:, None],
        "decode": torch.arange(LATENTS) > of_picture[:, None],
    }
    runs: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "encode": (lambda x: pixels.kind.encode(model, x), pictures),
        "decode": (lambda z: pixels.kind.decode(model, z), latents),
    }
    found = {}
    for way, (run, x) in runs.items():
        effect = influence(run, x, frame_dim=0)
        ahead = float((effect * later[way]).max() / effect.max())
        found[way] = Seen(effect, ahead, looking_ahead(model, lambda: run(x)) if ahead > 0 else [])  # noqa: B023
    return found


def _clip(pixels: VAE, t: int) -> tuple[Tensor, Tensor]:
    """Pictures (t 3 side side) in [-1, 1], and their latents (j c h w), float64."""
    generator = torch.Generator().manual_seed(0)
    for side in SIDES:
        pictures = torch.rand(t, 3, side, side, generator=generator).double() * 2 - 1
        try:
            latents = pixels.kind.encode(pixels.autoencoder, pictures)
            pixels.kind.decode(pixels.autoencoder, latents)
        except (RuntimeError, ValueError):
            if side == SIDES[-1]:
                raise
            continue
        return pictures, latents
    raise AssertionError


def looking_ahead(model: nn.Module, run: Callable[[], Any]) -> list[str]:
    """The modules of which earlier frames of the output change when the last frame of their own input does: `path (Class)`.

    Those are asked that map a video (b c t h w) to one, each alone on the first input that it is given during `run`; of
    modules within each other the innermost is named.
    """
    calls: dict[str, tuple[tuple, dict[str, Any]]] = {}

    def keep(name: str, _module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        video = all(isinstance(x, Tensor) and x.ndim == 5 for x in (args[0] if args else None, output))
        if video and name not in calls and args[0].shape[2] > 1:
            calls[name] = ((args[0].clone(), *args[1:]), kwargs)

    modules = dict(model.named_modules())
    handles = [
        module.register_forward_hook(partial(keep, name), with_kwargs=True)
        for name, module in modules.items()
        if name
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    found: list[str] = []
    for name, ((x, *rest), kwargs) in calls.items():  # a module is done after those within it
        if any(other.startswith(f"{name}.") for other in found):
            continue
        changed = x.clone()
        changed[:, :, -1] = changed[:, :, -1].flip(-1) + 1
        before, after = (modules[name](given, *rest, **kwargs) for given in (x, changed))
        own = -(-before.shape[2] // x.shape[2])  # frames that the last one of the input may make
        if not torch.equal(before[:, :, :-own], after[:, :, :-own]):
            found.append(name)
    return [f"{name} ({type(modules[name]).__name__})" for name in found]


def _consequence(way: str, found: Seen) -> str:
    """What to do about it, in words."""
    if found.later == 0:
        return {
            "encode": "It sees no later picture: whole clips may be encoded, or one after the other as they come",
            "decode": "It sees no later latent: pictures may be shown as their latents are made",
        }[way]
    norms = [module for module in found.modules if "Norm" in module]
    blamed = (
        f" ({len(norms)} of the {len(found.modules)} modules that look ahead are norms over the clip)"
        if norms
        else ""
    )
    return {
        "encode": "It sees later pictures: encode prefixes only, each latent frame from the pictures up to its own, as rollouts do, "
        f"or replace what looks ahead{blamed}",
        "decode": f"It sees later latents: decode a picture again when the latents after it are there, or replace what looks ahead{blamed}",
    }[way]


def _unmeasured(why: str) -> list[Claim]:
    return [not_measured(f"autoencoder-{way}", why) for way in WAYS]
