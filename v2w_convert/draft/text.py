"""A draft as YAML, written for a person: what was measured in front, what is open beside each line."""

import re
from typing import Any

import yaml

from v2w_convert.draft.draft import Draft
from v2w_convert.verification.claims.identity import ALLOWED

HEAD = """\
# A draft for {base}, made from a probe of a small, randomly initialised model (`tiny`). Nobody has read it yet:
# lines with "open:" are guesses, or could not be settled. Measured on the small model, in float64:
#   {identity}
#   {sites}
"""


def written(draft: Draft) -> str:
    """The plan's text; `read_plan` reads what `draft.plan` holds."""
    plan, notes = draft.plan, draft.open
    call = plan["call"]
    lines = [HEAD.format(base=plan["base"], identity=identity_of(draft), sites=sites_of(draft))]
    lines += [f"v2w: {plan['v2w']}", f"name: {plan['name']}", f"base: {plan['base']}", "", "tiny:"]
    lines += [f"  {key}: {_flow(value)}" for key, value in plan["tiny"].items()] or ["  {}"]
    if not plan["tiny"]:
        lines[-2:] = ["tiny: {}"]
    lines += [
        "",
        *_open(notes, "noise", ""),
        f"noise: {_flow(plan['noise'])}",
        "",
        *_open(notes, "call", ""),
        "call:",
    ]
    lines += [f"  latents:     {_flow(call['latents'])}", f"  noise_level: {_flow(call['noise_level'])}"]
    if call.get("token_counts"):
        lines += [
            line for letter in call["token_counts"] for line in _open(notes, f"token_counts.{letter}", "  ")
        ]
        lines.append(f"  token_counts: {_flow(call['token_counts'])}")
    if call.get("conditions"):
        lines.append("  conditions:")
        for name, condition in call["conditions"].items():
            lines += _open(notes, f"conditions.{name}", "    ")
            lines.append(f"    {name + ':':<14} {_flow(condition)}")
    if call.get("size_arguments"):
        lines.append(f"  size_arguments: {_flow(call['size_arguments'])}")
    if call.get("computed_arguments"):
        lines += [
            *_open(notes, "computed_arguments", "  "),
            f"  computed_arguments: {call['computed_arguments']}",
        ]
    lines += ["", "operations:"]
    for place in ("window", "period"):
        lines += _open(notes, place, "  ")
    for site in draft.missing:
        where = f"in {site.name}" if site.name else "in the model's own forward"
        lines.append(f"  # open: frames mix {where} ({site.module}), and no operation fits it")
    for rule in draft.rules:
        lines += [f"  # open: {_line(sentence)}" for sentence in rule.open]
        lines.append(f"  - {rule.name + ':':<18} {_flow(rule.fields)}")
    return "\n".join(lines) + "\n"


def questions(draft: Draft) -> list[str]:
    """Everything that is open, in sentences."""
    missing = [
        f"frames mix in {site.name or 'the model itself'} ({site.module}), and no operation fits it"
        for site in draft.missing
    ]
    ruled = [f"{rule.fields['at']}: {sentence}" for rule in draft.rules for sentence in rule.open]
    return [*missing, *ruled, *(f"{place}: {sentence}" for place, sentence in draft.open.items())]


def identity_of(draft: Draft) -> str:
    """What the identity claim said."""
    if draft.gap is None:
        return f"open: the folded model does not run ({_line(draft.where)})"
    if not draft.gap <= ALLOWED:
        return f"open: the folded model is not the base, by {draft.gap:.1e} of its largest value; first at {draft.where or '?'}"
    return f"with every operation in its bidirectional form, the folded model is the base to {draft.gap:.1e}"


def sites_of(draft: Draft) -> str:
    found = ", ".join(f"{count} {name}" for name, count in sorted(draft.counts.items()))
    missing = (
        f"; {len(draft.missing)} modules of the small one that no operation fits" if draft.missing else ""
    )
    return f"modules of the whole model: {found}{missing}"


def _open(notes: dict[str, str], place: str, indent: str) -> list[str]:
    return [f"{indent}# open: {_line(notes[place])}"] if place in notes else []


def _line(text: str) -> str:
    """On one line, printable: faults quote what files say."""
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", " ".join(text.split()))


def _flow(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
        .removesuffix("...\n")
        .strip()
    )
