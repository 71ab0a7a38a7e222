"""How far finetuning has moved the weights from the base's. A figure: it says where to look, not what is right."""

import re
from collections.abc import Callable

from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.change import transfer_tensor
from v2w_convert.verification.claim import Claim, ClaimSpec, join_names
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import FILES, Cost

FAR = 0.9  # noise of any size is at 1 or more: nothing of the base is left
SHOWN = 12  # groups in the report

WEIGHTS = ClaimSpec(
    "weights-distance",
    "distance",
    "How far the weights are from the base's, relative to the base's",
    stages=("finetuned",),
    figure=True,
    needs_base=True,
)


def measure_weights(
    base: Source,
    converted: Source,
    resolved: ResolvedPlan,
    check_time: Callable[..., None] = lambda: None,
) -> Claim:
    """Compare every tensor that the base has, after surgery and after finetuning, one at a time.

    Args:
        base: The base's files, complete.
        converted: The finetuned model's.
        resolved: The plan.
        check_time: Called before each tensor.
    """
    groups: dict[str, list[float]] = {}
    total, far = [0.0, 0.0], []
    for name, info in converted.tensors.items():
        check_time()
        if name not in base.tensors:
            continue
        before = read_tensor(base.tensors[name])
        transferred = transfer_tensor(resolved, name, before)
        before = (before if transferred is None else transferred).double()
        moved, size = float((read_tensor(info).double() - before).norm()) ** 2, float(before.norm()) ** 2
        for sums in (total, groups.setdefault(group_of(name), [0.0, 0.0])):
            sums[0] += moved
            sums[1] += size
        if before.ndim > 1 and size > 0 and not moved < FAR**2 * size:
            far.append(name)
    distances = {group: _ratio(sums) for group, sums in groups.items()}
    shown = sorted(distances, key=lambda group: -distances[group])[:SHOWN]
    return WEIGHTS.result(
        _ratio(total),
        where=join_names(far),
        how="norm of the difference over the norm of the base's weights after surgery; named are matrices and kernels at "
        f"{FAR:g} or more, of which next to nothing is the base's; by group, the furthest first: "
        + ", ".join(f"{group} {distances[group]:.2g}" for group in shown)
        + (f" and {len(distances) - SHOWN} nearer" if len(distances) > SHOWN else ""),
    )


def group_of(name: str) -> str:
    """The group of modules that a tensor belongs to: its path up to the first number."""
    found = re.match(r".*?\.\d+(?=\.)", name)
    return found[0] if found else name.split(".")[0]


def _ratio(sums: list[float]) -> float:
    moved, size = sums
    return (moved / size) ** 0.5 if size else float("inf") if moved else 0.0


def _measure(context: VerifyContext) -> list[Claim]:
    assert context.origin is not None
    return [measure_weights(context.origin, context.source, context.resolved, context.budget.check)]


CHECKS = (
    Check(
        "distance of the weights",
        (WEIGHTS,),
        FILES,
        _measure,
        Cost(reads=2),
        applies=lambda c: c.stage == "finetuned",
    ),
)
