"""Does the pipeline's autoencoder look ahead in time? Figures: a model can be finetuned in any case, but its user must know.

If `encode` does, latents of a recorded clip hold traces of later frames, which latents in a live rollout cannot. If
`decode` does, a frame is final only when the latents after it are known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import FILES
from v2w_convert.verification.module import influence
from v2w_convert.world.decoding import decode_clip
from v2w_convert.world.vae import VAE, open_vae

LATENT_FRAMES = 3
SIDES = (32, 64, 128, 256)  # pixels; the first that the autoencoder accepts
NAMED_MODULES = 5  # in the claim

ENCODE = ClaimSpec(
    "autoencoder-encode", "autoencoder", "How much later frames influence earlier latents", figure=True
)
DECODE = ClaimSpec(
    "autoencoder-decode", "autoencoder", "How much later latents influence earlier frames", figure=True
)
SPECS = {"encode": ENCODE, "decode": DECODE}


def measure_autoencoder(folder: Path) -> tuple[list[Claim], dict[str, Any] | None]:
    """Measure encoder and decoder of the autoencoder in `folder`.

    Returns:
        The claims, and the report's figure `autoencoder`: `class`, `packing`, and for `encode` and `decode` the
        `influence` of each input frame (column) on each output frame (row), `later` (the largest influence of a later
        frame, as a share of the largest) and the `modules` that look ahead. None if there is no autoencoder to measure.
    """
    if not (folder / "vae" / "config.json").is_file():
        return _not_measured("there is no autoencoder beside the model"), None
    try:
        vae = open_vae(folder)
    except V2WError as error:
        return _not_measured(error.found), None
    name = type(vae.autoencoder).__name__
    figures: dict[str, Any] = {"class": name, "packing": str(vae.packing)}
    if vae.single:
        how = f"by construction: the {name} encodes and decodes frame by frame"
        return [spec.result(0.0, how=how) for spec in SPECS.values()], figures | {
            way: {"influence": None, "later": 0.0, "modules": []} for way in SPECS
        }
    try:
        measured = measure_look_ahead(vae)
    except (RuntimeError, ValueError) as error:
        reason = f"the {name} accepts none of the frame sizes tried ({' '.join(str(error).split())[:120]})"
        return _not_measured(reason), None
    claims = []
    for way, found in measured.items():
        figures[way] = {"influence": found.influence.tolist(), "later": found.later, "modules": found.modules}
        how = (
            f"share of the largest effect of any frame; {name}, {vae.packing}, {LATENT_FRAMES} latent frames, float64. "
            f"{_consequence(way, found)}"
        )
        claims.append(SPECS[way].result(found.later, where=", ".join(found.modules[:NAMED_MODULES]), how=how))
    return claims, figures


@dataclass
class LookAhead:
    """What one direction of an autoencoder sees.

    Attributes:
        influence: (outputs inputs), of each input frame on each output frame.
        later: The largest influence of what comes later, over the largest of all.
        modules: Those that look ahead by themselves, with their classes, in the order of the run.
    """

    influence: Tensor
    later: float
    modules: list[str]


@torch.no_grad()
def measure_look_ahead(vae: VAE) -> dict[str, LookAhead]:
    """Measure `encode` and `decode` on a small random clip. The autoencoder is float64 afterwards.

    Raises:
        RuntimeError: If it accepts frames of no size in `SIDES`; or ValueError, as the autoencoder does.
    """
    model, packing = vae.autoencoder.to(torch.float64), vae.packing
    t = packing.frames(LATENT_FRAMES)
    frames, latents = _clip(vae, t)
    missing = packing.k - 1 if packing.alone else 0
    latent_of_frame = (torch.arange(t) + missing) // packing.k
    later = {
        "encode": latent_of_frame > torch.arange(LATENT_FRAMES)[:, None],
        "decode": torch.arange(LATENT_FRAMES) > latent_of_frame[:, None],
    }
    runs: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "encode": (lambda x: vae.kind.encode(model, x), frames),
        "decode": (lambda z: decode_clip(vae.kind.decode, vae.kind.chunks, model, z), latents),
    }
    found = {}
    for way, (run, x) in runs.items():
        effect = influence(run, x, frame_dim=0)
        ahead = float((effect * later[way]).max() / effect.max())
        found[way] = LookAhead(
            effect, ahead, modules_looking_ahead(model, partial(run, x)) if ahead > 0 else []
        )
    return found


def _clip(vae: VAE, t: int) -> tuple[Tensor, Tensor]:
    """Random frames (t 3 side side) in [-1, 1], and their latents (j c h w), float64."""
    generator = torch.Generator().manual_seed(0)
    for side in SIDES:
        frames = torch.rand(t, 3, side, side, generator=generator).double() * 2 - 1
        try:
            latents = vae.kind.encode(vae.autoencoder, frames)
            decode_clip(vae.kind.decode, vae.kind.chunks, vae.autoencoder, latents)
        except (RuntimeError, ValueError):
            if side == SIDES[-1]:
                raise
            continue
        return frames, latents
    raise AssertionError


def modules_looking_ahead(model: nn.Module, run: Callable[[], Any]) -> list[str]:
    """Return the modules whose earlier output frames change when the last frame of their input does: `path (Class)`.

    Only modules that map a video (b c t h w) to one are tested, each alone on the first input that it receives during
    `run`. Of modules inside each other the innermost is named.
    """
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def keep(
        name: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
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
    for name, ((x, *rest), kwargs) in calls.items():  # a module completes after those inside it
        if any(other.startswith(f"{name}.") for other in found):
            continue
        changed = x.clone()
        changed[:, :, -1] = changed[:, :, -1].flip(-1) + 1
        before, after = (modules[name](given, *rest, **kwargs) for given in (x, changed))
        own = -(-before.shape[2] // x.shape[2])  # output frames that belong to the last input frame
        if not torch.equal(before[:, :, :-own], after[:, :, :-own]):
            found.append(name)
    return [f"{name} ({type(modules[name]).__name__})" for name in found]


def _consequence(way: str, found: LookAhead) -> str:
    """What the figure means for the user."""
    if found.later == 0:
        return {
            "encode": "It sees no later frame: a clip may be encoded as a whole, or frame by frame as frames arrive",
            "decode": "It sees no later latent: frames may be shown as soon as their latents are generated",
        }[way]
    norms = [module for module in found.modules if "Norm" in module]
    note = (
        f" ({len(norms)} of the {len(found.modules)} modules that look ahead are norms over the clip)"
        if norms
        else ""
    )
    return {
        "encode": "It sees later frames: encode prefixes only, each latent frame from the frames up to its own, as rollouts "
        f"do, or replace what looks ahead{note}",
        "decode": "It sees later latents: decode a frame again when the latents after it are known, or replace what looks "
        f"ahead{note}",
    }[way]


def _not_measured(why: str) -> list[Claim]:
    return [spec.not_measured(why) for spec in SPECS.values()]


def _measure(context: VerifyContext) -> list[Claim]:
    claims, context.figures["autoencoder"] = measure_autoencoder(context.converted)
    return claims


CHECKS = (Check("autoencoder", (ENCODE, DECODE), FILES, _measure, whole=True),)
