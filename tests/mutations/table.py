"""The results: a line for each mutation, and a page with a table."""

from typing import Any

from tests.mutations.run import Verdict

HEAD = """# Broken models

Written by `python -m tests.mutations --docs`; `make test` checks a sample.

Models were broken on purpose, each in one way, and verified with `v2w verify`. For each, the claim that must catch it was fixed
beforehand, and the module (tensor, file) that it must name; of the unbroken ones, all claims must hold.{brief}
{once}
| mode | broken models | caught by that claim | with the right name | unbroken models | pass |
|---|---|---|---|---|---|
{totals}

The last columns say how many models were caught in each mode, with the right name; where it is not all of them, which were not.

| what is broken | expected claim | models | {modes} |
|---|---|---|{rules}
"""
BRIEF = """
Large models are measured in a brief mode; here small ones were measured in it, too. What is *left out* of it cannot be seen
there, and `v2w verify` says so in that claim."""
ONCE = """
This run broke one model, at one site, for each kind; `make mutations-all` breaks every family.
"""


def line(verdict: Verdict) -> str:
    """Return mutation, model, site, the expected claim, the others that fail, what it named, the judgement, the time."""
    judgement = "right" if verdict.ok else "NOT CAUGHT" if not verdict.caught else "WRONG MODULE"
    others = ", ".join(name for name in verdict.by if name != verdict.claim)
    if verdict.by.get("refused"):
        others += f" ({verdict.by['refused']})"
    cells = (verdict.kind, verdict.model, verdict.site, verdict.claim, others, verdict.named, judgement)
    return " | ".join(cells) + f" | {verdict.seconds:.1f} s" + " (brief)" * verdict.brief


def as_json(verdicts: list[Verdict]) -> dict[str, Any]:
    return {"ok": all(v.ok for v in verdicts), "verdicts": [v.as_json() for v in verdicts]}


def page(verdicts: list[Verdict], once: bool = False) -> str:
    """`once`: the run broke one model of each kind only."""
    modes = [mode for mode in (False, True) if any(v.brief is mode for v in verdicts)]
    head = HEAD.format(
        brief=BRIEF if True in modes else " The brief mode\nof large models was not tried in this run.",
        once=ONCE if once else "",
        totals="\n".join(_totals(mode, [v for v in verdicts if v.brief is mode]) for mode in modes),
        modes=" | ".join(map(_name, modes)),
        rules="---|" * len(modes),
    )
    kinds = dict.fromkeys(v.kind for v in sorted(verdicts, key=lambda v: not v.claim))
    return head + "".join(_row([v for v in verdicts if v.kind == kind], modes) for kind in kinds)


def _name(brief: bool) -> str:
    return "brief" if brief else "normal"


def _totals(mode: bool, verdicts: list[Verdict]) -> str:
    broken = [v for v in verdicts if v.claim]
    unbroken = [v for v in verdicts if not v.claim]
    numbers = (
        len(broken),
        sum(v.caught for v in broken),
        sum(v.ok for v in broken),
        len(unbroken),
        sum(v.ok for v in unbroken),
    )
    return f"| {_name(mode)} | {' | '.join(map(str, numbers))} |"


def _row(verdicts: list[Verdict], modes: list[bool]) -> str:
    """Of one kind."""
    claims = ", ".join(f"`{name}`" for name in dict.fromkeys(v.claim for v in verdicts) if name) or "none"
    kind = verdicts[0].kind if verdicts[0].claim else "nothing"
    models = ", ".join(dict.fromkeys(v.model.removesuffix(", as shipped") for v in verdicts))
    cells = [_cell([v for v in verdicts if v.brief is mode]) for mode in modes]
    return f"| {kind} | {claims} | {models} | {' | '.join(cells)} |\n"


def _cell(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return "left out"
    wrong = [v for v in verdicts if not v.ok]
    some = f" of {len(verdicts)}; not {', '.join(f'{v.model} ({v.site})' for v in wrong)}" if wrong else ""
    return f"{len(verdicts) - len(wrong)}{some}"
