"""A plan with what a user wants otherwise, without editing it."""

from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.operations import OPERATIONS
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import parse_plan

KINDS = {kind.name: kind for kind in OPERATIONS}


def adjust_plan(
    plan: Plan,
    *,
    transfer: str | None = None,
    frames_per_block: int | None = None,
    window: int | None = None,
    sinks: int | None = None,
) -> Plan:
    """The plan with some fields set at every operation that has them; None: as planned.

    Args:
        plan: The plan.
        transfer: The kernel transfer of causal convolutions.
        frames_per_block: Latent frames to a block.
        window: Frames in view of causal attentions.
        sinks: First frames that stay in view of them.

    Raises:
        V2WError: The plan has no operation with such a field, or the result is no plan.
    """
    data: dict[str, Any] = plan.model_dump(mode="json")
    if frames_per_block is not None:
        data["frames_per_block"] = frames_per_block
    for option, value in {"transfer": transfer, "window": window, "sinks": sinks}.items():
        if value is not None:
            _set(plan, data, option, value)
    return parse_plan(data, f"change the plan {plan.name}")


def _set(plan: Plan, data: dict[str, Any], option: str, value: str | int) -> None:
    """Set a field, in place, in the operations of a plan's plain data."""
    asked = f"convert with --{option} {value}"
    for operation in plan.operations:
        if (reason := operation.forbids(option)) is not None:
            raise V2WError(asked, reason, f"without --{option}")
    kinds = [name for name, kind in KINDS.items() if option in kind.options]
    if not any(name in kinds for entry in data["operations"] for name in entry):
        raise V2WError(asked, f"the plan {plan.name} has no {' or '.join(kinds)}")
    data["operations"] = [
        {
            name: KINDS[name].adjusted(fields, option, value) if name in kinds else fields
            for name, fields in entry.items()
        }
        for entry in data["operations"]
    ]
