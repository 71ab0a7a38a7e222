"""A plan with what a user wants otherwise, without editing it."""

from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.operations import TrainedAction
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import parse_plan


def adjust_plan(
    plan: Plan,
    *,
    transfer: str | None = None,
    frames_per_block: int | None = None,
    window: int | None = None,
    sinks: int | None = None,
) -> Plan:
    """The plan with another kernel transfer at every causal convolution, other blocks, and another view back at every
    causal attention; None: as planned. Raises V2WError where the plan has no such operation, or cannot be so.
    """
    data = plan.model_dump(mode="json")
    if frames_per_block is not None:
        data["frames_per_block"] = frames_per_block
    if transfer is not None:
        if any(isinstance(operation, TrainedAction) for operation in plan.operations):
            found = "its kernels are causal already, and trained"
            raise V2WError(f"convert with --transfer {transfer}", found, "without --transfer")
        for fields in _all(data, "causal_conv", f"--transfer {transfer}"):
            fields["transfer"] = transfer
            if transfer != "extrapolative":
                fields.pop("points", None)
    for name, value in (("window", window), ("sinks", sinks)):
        if value is not None:
            for fields in _all(data, "causal_attention", f"--{name} {value}"):
                fields[name] = value
    return parse_plan(data, f"change the plan {plan.name}")


def _all(data: dict[str, Any], operation: str, option: str) -> list[dict[str, Any]]:
    """The fields of every rule of that kind."""
    found = [entry[operation] for entry in data["operations"] if operation in entry]
    if not found:
        raise V2WError(f"convert with {option}", f"the plan {data['name']} has no {operation}")
    return found
