"""The results: a line for each mutation, and a page with a table."""

from typing import Any

from tests.mutations.run import Verdict

HEAD = """# Broken models

Written by `python -m tests.mutations --docs`; `make test` checks a sample.

{broken} models were broken on purpose, each in one way, and verified with `v2w verify`. For each, the claim that must catch it
was fixed beforehand, and the module (tensor, file) that it must name. {caught} were caught by that claim, {right} with the right
name. {unbroken} unbroken models, of every family, pass.

Each cell is the number of models, and, where they differ, how many were caught and how many with the right name.

"""


def line(verdict: Verdict) -> str:
    """Return mutation, model, site, the expected claim, the others that fail, what it named, the judgement, the time."""
    judgement = "right" if verdict.ok else "NOT CAUGHT" if not verdict.caught else "WRONG MODULE"
    others = ", ".join(name for name in verdict.by if name != verdict.claim)
    if verdict.by.get("refused"):
        others += f" ({verdict.by['refused']})"
    cells = (verdict.kind, verdict.model, verdict.site, verdict.claim, others, verdict.named, judgement)
    return " | ".join(cells) + f" | {verdict.seconds:.1f} s"


def as_json(verdicts: list[Verdict]) -> dict[str, Any]:
    return {"ok": all(v.ok for v in verdicts), "verdicts": [v.as_json() for v in verdicts]}


def page(verdicts: list[Verdict]) -> str:
    broken = [v for v in verdicts if v.claim]
    models = list(dict.fromkeys(v.model for v in broken))
    lines = [
        f"| what is broken | expected claim | {' | '.join(models)} |",
        "|" + "---|" * (len(models) + 2),
    ]
    for kind in dict.fromkeys(v.kind for v in broken):
        of_kind = [v for v in broken if v.kind == kind]
        claims = ", ".join(f"`{name}`" for name in dict.fromkeys(v.claim for v in of_kind))
        cells = [_cell([v for v in of_kind if v.model == model]) for model in models]
        lines.append(f"| {kind} | {claims} | {' | '.join(cells)} |")
    unbroken = [v for v in verdicts if not v.claim]
    lines.append(
        f"| nothing | none | {' | '.join(_cell([v for v in unbroken if v.model == m]) for m in models)} |"
    )
    head = HEAD.format(
        broken=len(broken),
        caught=sum(v.caught for v in broken),
        right=sum(v.ok for v in broken),
        unbroken=sum(v.ok for v in unbroken),
    )
    others = ", ".join(f"`{v.model}`" for v in unbroken if v.ok and v.model not in models)
    return head + "\n".join(lines) + f"\n\nUnbroken, as shipped: {others}.\n"


def _cell(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return ""
    tried, caught, right = len(verdicts), sum(v.caught for v in verdicts), sum(v.ok for v in verdicts)
    return str(tried) if tried == caught == right else f"{tried}: {caught} caught, {right} right"
