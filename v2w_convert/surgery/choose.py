"""A base and the plan that is applied to it.

What files alone reveal is refused before torch is imported: these functions import it when they need it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import Choice, Source
from v2w_convert.errors import V2WError, error_context
from v2w_convert.plan.document import read_document
from v2w_convert.strict_json import read_object

if TYPE_CHECKING:
    from v2w_convert.plan.resolve import ResolvedPlan


def choose_plan(
    base: Path,
    plan_file: Path | None = None,
    *,
    choice: Choice = Choice(),  # noqa: B008 (frozen)
    repair: bool = False,
    transfer: Literal["shift", "masked", "extrapolative"] | None = None,
    frames_per_block: int | None = None,
    window: int | None = None,
    sinks: int | None = None,
) -> "tuple[Source, ResolvedPlan]":
    """Open a base and resolve a plan for it.

    Args:
        base: A diffusers model or pipeline folder, or one file.
        plan_file: A plan; None: the shipped plan that fits.
        choice: Which of several weights of the base to read.
        repair: Choose the shipped plan that repairs a released model.
        transfer: Kernel transfer of every causal convolution; None: as the plan says. So are the others.
        frames_per_block: Latent frames denoised together.
        window: Latent frames in the context of every causal attention.
        sinks: First latent frames that stay in that context.

    Returns:
        The base's files, and the plan resolved for its config and scheduler.

    Raises:
        V2WError: The base cannot be read or is converted already, no plan fits it, or the plan has faults.
    """
    if plan_file is not None:
        read_document(plan_file)  # a file that is not YAML is refused before torch is imported
    source = open_source(base, choice)
    if source.converted:
        raise V2WError(f"convert {base}", "it is converted already", "v2w verify or v2w finetune")
    from v2w_convert.plan.adjust import adjust_plan
    from v2w_convert.plan.read import read_plan
    from v2w_convert.plan.registry import plan_for
    from v2w_convert.plan.resolve import resolve

    if plan_file is not None:
        plan = read_plan(plan_file)
    else:
        _require_served_pipeline(base, source)
        plan = plan_for(source.class_name, source.config, repair)
    if any(value is not None for value in (transfer, frames_per_block, window, sinks)):
        plan = adjust_plan(
            plan, transfer=transfer, frames_per_block=frames_per_block, window=window, sinks=sinks
        )
    with error_context(base, plan_file):
        return source, resolve(plan, source.config, source.scheduler)


def _require_served_pipeline(base: Path, source: Source) -> None:
    """Check that no pipeline is known to call the base's class in another way than its plan.

    Raises:
        V2WError: One is.
    """
    from v2w_convert.families import REFUSED_PIPELINES

    index = source.folder / "model_index.json"
    name = read_object(index).get("_class_name") if index.is_file() else None
    if isinstance(name, str) and name in REFUSED_PIPELINES:
        reason, instead = REFUSED_PIPELINES[name]
        raise V2WError(f"convert {base}", f"its pipeline is {name}: {reason}", instead)
