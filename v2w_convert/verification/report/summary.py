"""A report in ten to twenty lines of Markdown, for a model card."""

from typing import Any

from v2w_convert.errors import printable
from v2w_convert.report import fold_paths
from v2w_convert.verification.report.wording import faults, number, reason, state, verdict

# What a reader wants to know first; those that were not measured are left out.
FIRST = (
    "future-unseen",
    "future-unseen-stored",
    "gradients-not-forward",
    "past-seen",
    "streamed-by-block",
    "identity",
    "tensors-kept",
    "actions-unheeded",
    "action-heeded",
)
NAMED = 3  # modules of a place that fails, and claims that blame it; the rest are counted
TOLD = 5  # such places


def summary(result: dict[str, Any]) -> str:
    """Markdown of `result` (`Report.as_json`). Names come from files and stand in code spans, spelt out."""
    claims, model, run = result["claims"], result["model"], result["run"]
    broken = faults(claims)
    first = {claim["name"]: claim for claim in claims if state(claim) == "holds" and claim["name"] in FIRST}
    reasons = [reason(claim) for claim in claims if state(claim) == "not measured"]
    lines = [
        f"**{verdict(claims)}** Measured by `v2w verify` {run['v2w']} (torch {run['torch']}) on {run['date']}, on the weights "
        f"of this {model['stage']} model and {_code(model['source']['name'])}, which it was made of.",
        "",
    ]
    for fault in broken[:TOLD]:
        said = [
            f"{claim['claim']}: {number(claim['measured'])}, allowed {number(claim['allowed'])}"
            for claim in fault["claims"]
        ]
        more = f"; and {len(said) - NAMED} more" if len(said) > NAMED else ""
        lines.append(f"- **Fails** {_where(fault['where'])}: {'; '.join(said[:NAMED])}{more}.")
        if fault["mends"]:
            lines.append(f"  To mend it: {_code('; '.join(fault['mends']))}")
    if len(broken) > TOLD:
        lines.append(f"- and at {len(broken) - TOLD} more places")
    if broken:
        lines.append("")
    if first:
        lines += ["| claim | measured | allowed |", "|---|---|---|"]
        lines += [
            f"| {claim['claim']} | {number(claim['measured'])} | {number(claim['allowed'])} |"
            for claim in (first[name] for name in FIRST if name in first)
        ]
        lines.append("")
    lines += _distance(result["figures"]["distance"])
    told = [f"{reasons.count(why)} because {_plain(why)}" for why in dict.fromkeys(reasons)]
    lines.append(f"Not measured: {'; '.join(told) or 'nothing of what can be'}.")
    lines += ["", f"Measure it again: {_code(run['command'])}"]
    return "\n".join(lines) + "\n"


def _where(where: str) -> str:
    names = [*fold_paths(where.split(", "))] if where else []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"at {', '.join(map(_code, names[:NAMED]))}{more}" if names else "where no module could be blamed"


def _distance(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    told = [
        f"{number(max(values))} at noise level {number(level)}"
        for level, row in zip(found["noise_levels"], found["frames"], strict=True)
        if (values := [v for v in row if v is not None])
    ]
    return [
        f"Largest difference of a frame from the base's, as a share of the base's output: {', '.join(told)}.",
        "",
    ]


def _code(text: str) -> str:
    """A code span on one line, which what is in it cannot end."""
    shown = printable(text).replace("`", "'").replace("|", "¦").strip()
    return f"`{shown or ' '}`"


def _plain(text: str) -> str:
    """Prose that may quote a file: without what Markdown or HTML would take for more."""
    return "".join(f"&#{ord(char)};" if char in "<>&[]()!|`*_#\\" else char for char in printable(text))
