"""A report in ten to twenty lines of Markdown, for a model card."""

from typing import Any

from v2w_convert.escape import markdown, markdown_code
from v2w_convert.text import fold_paths
from v2w_convert.verification.report.wording import (
    figures_of,
    group_failures,
    number,
    of_expert,
    reason,
    state,
    verdict,
)

# The claims in the table; those that were not measured are left out.
TABLE = (
    "causal",
    "causal-stored",
    "gradients-causal",
    "receptive-field",
    "stream-by-block",
    "identity",
    "tensors-kept",
    "actions-no-effect-before-training",
    "action-has-effect",
)
MAX_NAMES = 3  # modules of one failure, and claims that blame them
MAX_FAILURES = 5


def summary(result: dict[str, Any]) -> str:
    """Return Markdown of `result` (`VerifyReport.as_json`). Names come from files and stand in code spans."""
    claims, model, run = result["claims"], result["model"], result["run"]
    failures = group_failures(claims)
    table = [claim for claim in claims if state(claim) == "holds" and claim["id"] in TABLE]
    table.sort(key=lambda claim: TABLE.index(claim["id"]))
    reasons = [reason(claim) for claim in claims if state(claim) == "not measured"]
    lines = [
        f"**{verdict(claims)}** Measured by `v2w verify` {run['v2w']} (torch {run['torch']}) on {run['date']}, on the weights "
        f"of this {model['stage']} model and of its base {markdown_code(model['source']['name'])}.",
        "",
    ]
    for failure in failures[:MAX_FAILURES]:
        sentences = [
            f"{markdown(claim['sentence'])}: {number(claim['measured'])}, allowed {number(claim['allowed'])}"
            for claim in failure["claims"]
        ]
        more = f"; and {len(sentences) - MAX_NAMES} more" if len(sentences) > MAX_NAMES else ""
        lines.append(f"- **Fails** {_where(failure['where'])}: {'; '.join(sentences[:MAX_NAMES])}{more}.")
        if failure["fixes"]:
            lines.append(f"  To fix it: {markdown_code('; '.join(failure['fixes']))}")
    if len(failures) > MAX_FAILURES:
        lines.append(f"- and at {len(failures) - MAX_FAILURES} more places")
    if failures:
        lines.append("")
    if table:
        lines += ["| claim | measured | allowed |", "|---|---|---|"]
        lines += [
            f"| {markdown(claim['sentence'])} | {number(claim['measured'])} | {number(claim['allowed'])} |"
            for claim in table
        ]
        lines.append("")
    for expert, figures in figures_of(result["figures"]).items():
        lines += _distance(figures["distance"], of_expert(expert))
    grouped = [f"{reasons.count(why)} because {markdown(why)}" for why in dict.fromkeys(reasons)]
    lines.append(
        f"Not measured: {'; '.join(grouped)}." if grouped else "Everything that applies was measured."
    )
    if result["missing"]:
        lines.append(
            f"Of the core, there was no time for {', '.join(map(markdown_code, result['missing']))}."
        )
    lines += ["", f"Measure it again: {markdown_code(run['command'])}"]
    return "\n".join(lines) + "\n"


def _where(where: str) -> str:
    names = [*fold_paths(where.split(", "))] if where else []
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return (
        f"at {', '.join(map(markdown_code, names[:MAX_NAMES]))}{more}" if names else "at no particular module"
    )


def _distance(found: dict[str, Any] | None, of: str) -> list[str]:
    if found is None:
        return []
    levels = [
        f"{number(max(values))} at noise level {number(level)}"
        for level, row in zip(found["noise_levels"], found["frames"], strict=True)
        if (values := [v for v in row if v is not None])
    ]
    return [
        f"Largest difference of a frame from the base's{of}, as a share of the base's output: {', '.join(levels)}.",
        "",
    ]
