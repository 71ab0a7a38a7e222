"""A draft as YAML for a person to read: what was measured at the top, what is open above each line."""

from collections.abc import Mapping
from typing import Any

import yaml

from v2w_convert.draft.draft import Draft
from v2w_convert.escape import printable
from v2w_convert.verification.claims.identity import ALLOWED

HEADER = """\
# A draft for {base}. Nobody has reviewed it yet: a comment
# that begins with "open:" marks a guess, or what could not be settled.
# Measured on a small, randomly initialised model (`tiny`), in float64:
#   {identity}
#   {sites}
"""


def plan_text(draft: Draft) -> str:
    """The text of the plan; `read_plan` reads from it what `draft.plan` holds."""
    plan, notes = draft.plan, draft.open
    lines = [
        HEADER.format(base=plan["base"], identity=identity_summary(draft), sites=sites_summary(draft)),
        f"v2w: {plan['v2w']}",
        f"name: {plan['name']}",
        f"base: {plan['base']}",
        "",
        *_tiny_lines(plan["tiny"]),
        "",
        *_open_lines(notes, "noise", ""),
        f"noise: {_flow(plan['noise'])}",
        "",
        *_call_lines(plan["call"], notes),
        "",
        *_operation_lines(draft),
    ]
    return "\n".join(lines) + "\n"


def open_questions(draft: Draft) -> list[str]:
    """Everything that is open, in sentences."""
    missing = [
        f"frames mix in {site.name or 'the forward of the model itself'} ({site.module}), and no operation fits it"
        for site in draft.missing
    ]
    of_entries = [f"{entry.fields['at']}: {sentence}" for entry in draft.entries for sentence in entry.open]
    return [*missing, *of_entries, *(f"{key}: {sentence}" for key, sentence in draft.open.items())]


def identity_summary(draft: Draft) -> str:
    """What the identity claim measured, in a sentence."""
    if draft.gap is None:
        return f"open: the folded model does not run ({printable(draft.where)})"
    if not draft.gap <= ALLOWED:
        where = draft.where or "?"
        return f"open: the folded model differs from the base by {draft.gap:.1e} of its largest value; first at {where}"
    return (
        f"with every operation in its bidirectional form, the folded model equals the base to {draft.gap:.1e}"
    )


def sites_summary(draft: Draft) -> str:
    """How many modules have which operation, in a sentence."""
    found = ", ".join(f"{count} {name}" for name, count in sorted(draft.counts.items()))
    missing = (
        f"; {len(draft.missing)} modules of the small model that no operation fits" if draft.missing else ""
    )
    return f"modules of the whole model: {found}{missing}"


def _tiny_lines(tiny: Mapping[str, Any]) -> list[str]:
    if not tiny:
        return ["tiny: {}"]
    return ["tiny:", *(f"  {key}: {_flow(value)}" for key, value in tiny.items())]


def _call_lines(call: Mapping[str, Any], notes: Mapping[str, str]) -> list[str]:
    lines = [
        *_open_lines(notes, "call", ""),
        "call:",
        f"  latents:     {_flow(call['latents'])}",
        f"  noise_level: {_flow(call['noise_level'])}",
    ]
    if tokens := call.get("token_counts"):
        for letter in tokens:
            lines += _open_lines(notes, f"token_counts.{letter}", "  ")
        lines.append(f"  token_counts: {_flow(tokens)}")
    if conditions := call.get("conditions"):
        lines.append("  conditions:")
        for name, condition in conditions.items():
            lines += _open_lines(notes, f"conditions.{name}", "    ")
            lines.append(f"    {name + ':':<14} {_flow(condition)}")
    if sizes := call.get("size_arguments"):
        lines.append(f"  size_arguments: {_flow(sizes)}")
    if computed := call.get("computed_arguments"):
        lines += [*_open_lines(notes, "computed_arguments", "  "), f"  computed_arguments: {computed}"]
    return lines


def _operation_lines(draft: Draft) -> list[str]:
    lines = ["operations:"]
    for key in ("window", "period"):
        lines += _open_lines(draft.open, key, "  ")
    for site in draft.missing:
        where = f"in {site.name}" if site.name else "in the model's own forward"
        lines.append(f"  # open: frames mix {where} ({site.module}), and no operation fits it")
    for entry in draft.entries:
        lines += [f"  # open: {printable(sentence)}" for sentence in entry.open]
        lines.append(f"  - {entry.name + ':':<18} {_flow(entry.fields)}")
    return lines


def _open_lines(notes: Mapping[str, str], key: str, indent: str) -> list[str]:
    return [f"{indent}# open: {printable(notes[key])}"] if key in notes else []


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("...\n").strip()
