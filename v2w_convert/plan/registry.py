"""The shipped plans: which one fits a class of models and its config."""

import inspect
from collections.abc import Mapping
from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.families import REFUSED, model_class
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import read_plan, shipped_plans


def plan_for(class_name: str, config: Mapping[str, Any] | None = None, repair: bool = False) -> Plan:
    """The shipped plan for a class of models.

    Args:
        class_name: The base's class.
        config: The base's config, where several plans are for that class; None: the first plan.
        repair: Whether the plan repairs what another one for that class leaves as it is.

    Raises:
        V2WError: No plan serves the class, or this config of it; with the reasons.
    """
    asked = f"find a plan for {class_name}"
    if class_name in REFUSED:
        raise V2WError(asked, REFUSED[class_name], "a bidirectional video model")
    fitting = _plans_of(class_name)
    if not fitting:
        raise V2WError(
            asked,
            "no shipped plan is for that class",
            "v2w plan BASE -o plan.yaml, which drafts one",
        )
    fitting = [plan for plan in fitting if (plan.repairs is not None) == repair]
    if not fitting:
        raise V2WError(f"repair a {class_name}", "no shipped plan repairs that class", "without --repair")
    if config is None:
        return fitting[0]
    reasons = {plan.name: unmet_requirements(plan, config) for plan in fitting}
    for plan in fitting:
        if not reasons[plan.name]:
            return plan
    raise V2WError(asked, [f"{name}: {reason}" for name, found in reasons.items() for reason in found])


def is_known(class_name: str) -> bool:
    """Whether there is a shipped plan for the class, or a reason why it cannot be converted."""
    return class_name in REFUSED or bool(_plans_of(class_name))


def _plans_of(class_name: str) -> list[Plan]:
    # Parsing YAML is slow: only plans that contain the name are parsed.
    files = [file for file in shipped_plans().values() if class_name in file.read_text("utf-8")]
    return [plan for plan in map(read_plan, files) if plan.base == class_name]


def unmet_requirements(plan: Plan, config: Mapping[str, Any]) -> list[str]:
    """What the plan requires of the base's config (or else of the class's defaults) and does not find, in sentences."""
    defaults = inspect.signature(model_class(plan.base).__init__).parameters
    found = {
        key: config.get(key, defaults[key].default if key in defaults else None) for key in plan.requires
    }
    return [
        f"the base's {key} is {found[key]!r}, the plan serves {' or '.join(map(repr, values))}"
        + (f": {plan.reasons[key]}" if key in plan.reasons else "")
        for key, values in plan.requires.items()
        if _plain(found[key]) not in values
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
