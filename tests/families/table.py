"""Write docs/families.md: `python -m tests.families.table`. The tests check that it is current."""

from collections import Counter
from pathlib import Path

import torch

from tests.families.published import PUBLISHED
from v2w_convert.families import COMPUTED, MODELS, REFUSED, model_class
from v2w_convert.operations import CausalAttention, CausalConv, FramePosition
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import read_plan, shipped
from v2w_convert.plan.resolve import Resolved, complete, resolve
from v2w_convert.surgery.change import added

FILE = Path(__file__).parents[2] / "docs" / "families.md"
ACTIONS = 3
# Imported with the actions they were trained with, one of them leaking: tests/families/test_vid2world.py
TRAINED = {"vid2world", "vid2world-mended"}
HEAD = f"""# Families of models

Written by `python -m tests.families.table`; `make test` checks that it is current. Each plan is tested on a tiny, randomly
initialised model of its class with everything that starts at zero woken: it converts, and every claim of `v2w verify`
holds (leak exactly 0 in float64 and float32; identity and streamed = full within 1e-9 in float64, streams past twice
the window; promises), before and after a step of finetuning. The numbers of sites and of added parameters (for
{ACTIONS} actions) are those of a published size, on which the plan is resolved as well. The last column names the Python that
was written for one family alone: a file, or a form of an operation; where it is empty, the family is one YAML file.

| plan | class | sites | parameters added | window | beyond the trained length | besides the YAML |
|---|---|---|---|---|---|---|
"""
FAMILIES = [name for name in shipped() if name not in TRAINED]
TAIL = """
Vid2World's released checkpoints (`Vid2WorldUNet`) are causal and trained with actions already: `plans/vid2world.yaml` imports them as
they are, and `v2w verify` names the norms by which their frames see the future; with `v2w convert --mend`,
`plans/vid2world-mended.yaml` mends those.

Not served, with the reason that `v2w inspect` gives:

| class | why |
|---|---|
"""


def row(name: str) -> str:
    """One family's line of the table."""
    plan = read_plan(shipped()[name])
    with torch.device("meta"):
        model = model_class(plan.base)(**PUBLISHED[name][0])
    resolved = resolve(plan, complete(model))
    counts = Counter(operation.name for operation in resolved.sites.values())
    sites = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    new = sum(torch.Size(shape).numel() for shape in added(resolved, model, ACTIONS).values())
    window = "all frames so far" if resolved.window is None else f"{resolved.window} frames"
    besides = ", ".join([*written(plan), *(f"`{form}`" for form in sorted(own_forms(name)))])
    return f"| `{name}` | `{plan.base}` | {sites} | {new / 1e6:.1f} M | {window} | {beyond(resolved)} | {besides} |"


def written(plan: Plan) -> list[str]:
    """The files of Python that the plan names: its model, where diffusers has none, and what works out arguments."""
    named = [MODELS.get(plan.base), COMPUTED.get(plan.call.computed or "")]
    modules = [thing.__module__ for thing in named if thing is not None]
    return [f"`{module.removeprefix('v2w_convert.').replace('.', '/')}.py`" for module in modules]


def forms(name: str) -> set[str]:
    """What the plan asks of operations."""
    found = set()
    for operation in read_plan(shipped()[name]).operations:
        found.add(operation.name)
        if isinstance(operation, FramePosition):
            found.add(f"frame_position how {operation.how}")
        if isinstance(operation, CausalAttention) and operation.apart:
            found.add("causal_attention apart")
        rotary = getattr(operation, "rotary", None)
        if rotary is not None:
            said = rotary.model_dump(exclude_defaults=True, include={"pairs", "heads", "learned"})
            found |= {f"rotary {key} {value}" for key, value in said.items()}
    return found


def own_forms(name: str) -> set[str]:
    """Those that no other plan asks for: Python that was written for this family."""
    return forms(name) - set().union(*(forms(other) for other in FAMILIES if other != name))


def beyond(resolved: Resolved) -> str:
    """What is done where a rollout is longer than the clips that the base was trained on."""
    kinds = {type(operation) for operation in resolved.sites.values()}
    if FramePosition in kinds:
        return f"indices begin again after {resolved.period}"
    if resolved.window is None:
        return "places go on, sums forget nothing"
    rotary = any(getattr(operation, "rotary", None) for operation in resolved.sites.values())
    if rotary:
        return "places count within the window"
    return "no positions" + (", convolutions see the frames before" if CausalConv in kinds else "")


def main() -> None:
    refused = "\n".join(f"| `{name}` | {reason} |" for name, reason in sorted(REFUSED.items()))
    FILE.write_text(HEAD + "\n".join(row(name) for name in FAMILIES) + "\n" + TAIL + refused + "\n", "utf-8")


if __name__ == "__main__":
    main()
