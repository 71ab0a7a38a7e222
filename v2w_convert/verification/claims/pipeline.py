"""What the base receives is what its own pipeline of diffusers gives it, and its forward runs on that.

A recorder stands for the denoiser, in the pipeline and in the plan's call. Nothing is generated: the first call counts.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from v2w_convert.console import quiet_libraries
from v2w_convert.errors import V2WError, one_line
from v2w_convert.families.build import build_model
from v2w_convert.plan.call import call_base
from v2w_convert.plan.condition import ResolvedCondition
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec, join_names
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.phases import FILES, STORED
from v2w_convert.verification.engine.pipelines import PIPELINES
from v2w_convert.verification.engine.published_calls import PUBLISHED_CALLS
from v2w_convert.verification.engine.recorded_pipeline import (
    Arguments,
    difference,
    record_call,
    record_pipeline,
)
from v2w_convert.verification.report.fixes import fix_text
from v2w_convert.world.vae import VAE, open_vae

ALLOWED = 1e-5  # of the largest value: an autoencoder's float32 in another order of sums
SIZE = (64, 96)  # of pictures; multiples of what every autoencoder takes
FRAMES = 5  # latent
TOKENS = 3
UNNAMED_SIZE = (16, 32)  # of latents, where the config names none
UNNAMED_LENGTH = 16  # latent frames, where the plan has no window

ARGUMENTS = ClaimSpec(
    "pipeline-arguments",
    "pipeline",
    "The base receives every argument that its own pipeline gives it, and no other",
    fix=fix_text("`call` in the plan: an argument that is missing, or another value"),
    core=True,
)
PICTURE = ClaimSpec(
    "pipeline-picture",
    "pipeline",
    "A clip's first picture becomes what the pipeline makes of it, frame by frame",
    fix=fix_text(
        "`call.image_conditions` and `later_frames` in the plan, and the function that the former names"
    ),
)
RUNS = ClaimSpec(
    "forward-runs",
    "pipeline",
    "The base's forward runs with these arguments on a clip as long as its window",
    fix=fix_text("`call` in the plan, or a base of another size"),
)


def measure_pipeline(resolved: ResolvedPlan, vae: VAE | None) -> list[Claim]:
    """Compare what the plan's call and the family's pipeline give a denoiser.

    Args:
        resolved: The plan.
        vae: The folder's autoencoder, where it is of a class that the pipeline has.
    """
    if resolved.plan.name not in PIPELINES:
        return _not_measured("diffusers has no pipeline for this plan")
    call = resolved.call
    if call.image_conditions is not None and vae is None:
        return _not_measured("the folder has no autoencoder of the kind that makes conditions of a picture")
    generator = torch.Generator().manual_seed(0)
    given = {
        name: embedding(condition, generator)
        for name, condition in call.conditions.items()
        if not condition.is_per_frame
    }
    frames = resolved.frames(FRAMES)
    picture, made = None, {}
    if call.image_conditions is not None and vae is not None:
        picture = torch.randint(0, 256, (*SIZE, 3), generator=generator, dtype=torch.uint8)
        made = {name: x[None] for name, x in call.image_conditions(vae, picture, frames).items()}
    try:
        theirs = record_pipeline(resolved, given, frames, SIZE, vae, picture)
    except Exception as error:  # whatever a pipeline of another release makes of its own parts
        return _not_measured(f"its pipeline cannot be called: {type(error).__name__}: {str(error)[:200]}")
    published = PUBLISHED_CALLS[resolved.plan.base]
    clip = published.frames(
        theirs[published.argument], theirs
    )  # not by the plan's layout, which is in question
    ours = record_call(resolved, clip[:, :, : call.channels], torch.zeros(1), given | made)
    return compare(resolved, ours, theirs)


def compare(resolved: ResolvedPlan, ours: Arguments, theirs: Arguments) -> list[Claim]:
    """Compare two recorded calls, all but the noise level, of which other claims are."""
    call, planned = resolved.call, resolved.plan.call
    # Some pipelines give also what a checkpoint's config has switched off.
    unused = planned.conditions.keys() - planned.active_conditions(resolved.config).keys()
    names = (ours.keys() | theirs.keys()) - {planned.conditions[name].argument for name in unused}
    # The last one says how the noise level is laid out (SkyReels V2).
    names -= {call.noise_level, "return_dict", "enable_diffusion_forcing"}
    apart = {
        name: difference(ours[name], theirs[name]) if name in ours and name in theirs else float("inf")
        for name in sorted(names)
    }
    own = {c.argument for c in call.conditions.values() if c.is_per_frame and c.argument is not None}
    of_pictures = {name: apart.pop(name) for name in own & apart.keys()}
    published = PUBLISHED_CALLS[resolved.plan.base]
    if published.argument in ours.keys() & theirs.keys():
        frames = [published.frames(each[published.argument], theirs) for each in (ours, theirs)]
        noisy, concatenated = zip(*(x.tensor_split([call.channels], 2) for x in frames), strict=True)
        apart[published.argument] = difference(*noisy)
        if any(x.shape[2] for x in concatenated):
            of_pictures[published.argument] = difference(*concatenated)
    wrong = [name for name, value in apart.items() if not value <= ALLOWED]
    claims = [
        ARGUMENTS.count(
            wrong, f"arguments of the first call, of {len(apart)}: missing, too many, or other values"
        )
    ]
    if call.image_conditions is None:
        return [*claims, PICTURE.not_measured("the base takes no picture")]
    largest = max(of_pictures.values(), default=float("inf"))
    return [
        *claims,
        PICTURE.result(
            largest,
            allowed=ALLOWED,
            where=join_names(name for name, value in of_pictures.items() if not value <= ALLOWED),
            how="largest difference over the largest value, by the folder's own autoencoder, on a random picture of "
            f"{SIZE[0]} x {SIZE[1]}; the posterior's mode",
        ),
    ]


def find_vae(resolved: ResolvedPlan, folder: Path) -> VAE | None:
    """The folder's autoencoder; None if there is none of a class that the family's released pipelines have."""
    if resolved.plan.name not in PIPELINES or not (folder / "vae" / "config.json").is_file():
        return None
    try:
        vae = open_vae(folder)
    except V2WError:  # of a class that is not served
        return None
    fitting = PIPELINES[resolved.plan.name].autoencoders
    return vae if type(vae.autoencoder).__name__ in fitting else None


def embedding(condition: ResolvedCondition, generator: torch.Generator) -> Tensor:
    """A random embedding (1 …); of a mask or a setting, the null one."""
    null = condition.null(tokens=TOKENS)[None]
    if condition.dtype != "float" or null.ndim < 2 or condition.fill != 0:
        return null
    return torch.randn(null.shape, generator=generator)


def measure_forward(resolved: ResolvedPlan) -> Claim:
    """Run the base on tensors without values, of the sizes that it is used at."""
    call, config = resolved.call, resolved.config
    h, w = (config.get(key, config.get("sample_size")) for key in ("sample_height", "sample_width"))
    h, w = (h, w) if isinstance(h, int) and isinstance(w, int) else UNNAMED_SIZE
    t = resolved.frames(resolved.window or UNNAMED_LENGTH)
    how = f"1 where it fails; {t} frames of latents {h} x {w}, tensors without values"
    try:
        with quiet_libraries(logging.ERROR), FakeTensorMode(), torch.no_grad():  # torch logs whole tracebacks
            base = build_model(resolved.plan.base, config)
            conditions = {name: condition.null(h, w)[None] for name, condition in call.conditions.items()}
            latents = torch.empty(1, t, call.channels, h, w)
            output = call_base(base, call, latents, torch.zeros(1), conditions)
    except (DataDependentOutputException, DynamicOutputShapeException):
        return RUNS.not_measured("its forward branches on values, which tensors without values do not have")
    except Exception as error:  # whatever a forward makes of arguments that it was not meant to get
        return RUNS.result(1.0, where=MODEL_FORWARD, how=f"{how}: {one_line(error)}")
    if output.shape != latents.shape:
        return RUNS.result(1.0, where=MODEL_FORWARD, how=f"{how}: its output is {tuple(output.shape)}")
    return RUNS.result(0.0, how=how)


def _not_measured(why: str) -> list[Claim]:
    return [spec.not_measured(why) for spec in (ARGUMENTS, PICTURE)]


CHECKS = (
    Check("the forward at its own size", (RUNS,), FILES, lambda c: [measure_forward(c.resolved)]),
    Check(
        "what its pipeline gives the base",
        (ARGUMENTS, PICTURE),
        STORED,
        lambda c: measure_pipeline(c.world.resolved, find_vae(c.resolved, c.converted)),
    ),
)
