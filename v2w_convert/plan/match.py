"""Match a plan's operations with the modules of a base."""

from collections.abc import Sequence

from torch import nn

from v2w_convert.operations import Operation
from v2w_convert.plan.pattern import matches, nearest_paths


def match_operations(
    operations: Sequence[Operation], model: nn.Module
) -> tuple[dict[str, Operation], list[str]]:
    """Which module gets which operation.

    Returns:
        Module path -> operation, in the order of the model's modules; and every fault found on the way.
    """
    modules = dict(model.named_modules())
    chosen: dict[str, Operation] = {}
    faults: list[str] = []
    for operation in operations:
        found = [path for path in modules if path and matches(operation.at, path)]
        if not found:
            near = nearest_paths(operation.at, modules)
            faults.append(
                f"{operation.name} at {operation.at!r} matches nothing"
                + (f", nearest are {', '.join(near)}" if near else "")
            )
        for path in found:
            if path in chosen:
                faults.append(f"both {chosen[path].name} and {operation.name} match {path}")
            elif reason := operation.why_not(modules[path]):
                faults.append(f"{operation.name} does not fit {path}, which {reason}")
            chosen[path] = operation
    return {path: chosen[path] for path in modules if path in chosen}, faults
