"""What a base is, and what the plan that fits it would do. No weights are read."""

import math
from pathlib import Path

from v2w_convert.checkpoint.source import Choice
from v2w_convert.errors import error_context
from v2w_convert.surgery.choose import choose_plan
from v2w_convert.surgery.result import InspectResult
from v2w_convert.surgery.settings import InspectSettings


def inspect(base: Path, settings: InspectSettings) -> InspectResult:
    """Describe a base.

    Args:
        base: A diffusers model or pipeline folder, or a file or folder as its makers publish it.
        settings: Which plan to try.

    Returns:
        Its class and sizes, the plan, the modules that the plan changes and those that it forgets.

    Raises:
        V2WError: The base cannot be read, no plan fits it, or its files do not hold what its config describes.
    """
    source, resolved = choose_plan(base, settings.plan, choice=Choice(settings.variant, settings.ema))
    from v2w_convert.plan.coverage import uncovered_sites
    from v2w_convert.surgery.convert import check_tensors
    from v2w_convert.surgery.model_files import stored_dtype
    from v2w_convert.surgery.pipeline import autoencoder_notes

    check_tensors(source, resolved)
    with error_context(base, settings.plan):
        uncovered = [site.name for site in uncovered_sites(resolved.plan)]
    return InspectResult(
        base=base,
        plan=resolved.plan.name,
        class_name=source.class_name,
        parameters=sum(
            math.prod(info.shape) for expert in source.experts.values() for info in expert.tensors.values()
        ),
        dtype=str(stored_dtype(source)).removeprefix("torch."),
        latent_channels=resolved.call.channels,
        window=resolved.window,
        frames_per_block=resolved.frames_per_block,
        conditions=list(resolved.call.conditions),
        noise=resolved.noise.kind,
        prediction_type=resolved.noise.prediction,
        sites={path: operation.name for path, operation in resolved.sites.items()},
        uncovered=uncovered,
        boundary=source.boundary,
        notes=[*source.notes, *autoencoder_notes(source)],
        settings=settings,
    )
