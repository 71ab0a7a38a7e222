"""The plan for a base: the shipped one that fits, or a draft."""

from pathlib import Path

from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import Choice
from v2w_convert.draft.result import PlanResult
from v2w_convert.errors import V2WError
from v2w_convert.new_file import write_text
from v2w_convert.progress import Progress, ProgressEvent, no_progress


def write_plan(base: Path, output: Path | None = None, progress: Progress = no_progress) -> PlanResult:
    """Find the plan for a base, or draft one.

    Args:
        base: A diffusers model or pipeline folder, or a file or folder as its makers publish it.
        output: A YAML file to write, which must not exist; None: the text is only returned.
        progress: Called before a draft is measured.

    Returns:
        The plan, and for a draft what was measured and what is open.

    Raises:
        V2WError: The file exists, the base cannot be read or is converted already, or its class cannot be
            converted.
    """
    if output is not None and output.exists():
        raise V2WError(f"write the plan to {output}", "the file exists", "another name")
    source = open_source(base, Choice(first=True))
    if source.converted:
        raise V2WError(f"plan for {base}", "it is converted already", "the model that it was made of")
    from v2w_convert.plan.read import shipped_plans
    from v2w_convert.plan.registry import is_known, plan_for

    if is_known(source.class_name):
        fitting = plan_for(source.class_name, source.config)
        text = shipped_plans()[fitting.name].read_text(encoding="utf-8")
        result = PlanResult(base, fitting.name, fitting.base, text, output)
    else:
        from v2w_convert.draft.draft import draft
        from v2w_convert.draft.plan_text import identity_summary, open_questions, plan_text, sites_summary

        progress(ProgressEvent("draft", detail=f"a plan for {source.class_name}"))
        drafted = draft(source.class_name, source.config, source.scheduler)
        result = PlanResult(
            base,
            drafted.plan["name"],
            source.class_name,
            plan_text(drafted),
            output,
            drafted=True,
            site_counts=drafted.counts,
            identity_gap=drafted.gap,
            holds=drafted.holds,
            summary=[sites_summary(drafted), identity_summary(drafted)],
            open_questions=open_questions(drafted),
        )
    if output is not None:
        write_text(output, result.text)
    return result
