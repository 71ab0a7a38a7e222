"""Suggestions: what would fix a claim that fails, as a line of the plan where there is one."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from v2w_convert.operations import Operation
from v2w_convert.operations.base import Problem
from v2w_convert.operations.fitting import fitting
from v2w_convert.plan.pattern import MAX_WILDCARDS, matches
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.claim import Claim, Fix

CONVERT_AGAIN = "convert again: v2w convert BASE -o OUT"
MAX_LINES = 8
POSITION_CLASSES = ("Timesteps",)  # diffusers' classes that turn frame indices into positions

Advice = Callable[[Operation], str]
"""What to change in an operation's rule; "" for nothing in particular."""


@dataclass(frozen=True)
class FixContext:
    """What suggestions are made from.

    Attributes:
        resolved: The plan.
        modules: The base's modules by path.
        uncovered: Modules through which the base's frames mix and that have no operation.
    """

    resolved: ResolvedPlan
    modules: Mapping[str, nn.Module]
    uncovered: frozenset[str]


def add_fixes(claims: list[Claim], resolved: ResolvedPlan) -> list[Claim]:
    """Return the claims; those that fail with their `fix`."""
    if all(claim.ok for claim in claims):
        return claims
    uncovered = {name for claim in claims if claim.id == "coverage" for name in claim.where.split(", ")}
    context = FixContext(resolved, dict(resolved.base.named_modules()), frozenset(uncovered))
    return [claim if claim.ok else replace(claim, fix=_fix(claim, context)) for claim in claims]


def _fix(claim: Claim, context: FixContext) -> str:
    lines = (claim.spec.fix or fix_rules())(claim, context)
    more = [f"and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    return "\n".join([*lines[:MAX_LINES], *more])


# ------------------------------------------------------------------------------- fixes, for `ClaimSpec.fix`


def fix_text(line: str) -> Fix:
    """Return a fix that is the same line for every model."""
    return lambda claim, context: [line]


def fix_rules(advice: Advice = lambda operation: "", otherwise: str = "") -> Fix:
    """Return a fix that names, for each module in the claim's `where`, its rule in the plan or the one that is missing.

    Args:
        advice: What to change in a rule.
        otherwise: The line for a claim that names no such module.
    """

    def fix(claim: Claim, context: FixContext) -> list[str]:
        sites = context.resolved.sites
        names = [name for name in claim.where.split(", ") if name in context.modules]
        lines = missing_rules([name for name in names if name not in sites], context)
        for operation in dict.fromkeys(sites[name] for name in names if name in sites):
            lines.append(
                "; ".join(filter(None, [f"check its rule in the plan: {rule(operation)}", advice(operation)]))
            )
        return lines or ([otherwise] if otherwise else [])

    return fix


def advise_against(problem: Problem) -> Advice:
    """Return what the operation itself suggests against a problem."""
    return lambda operation: operation.suggestion(problem) or ""


def advise_finetuning(operation: Operation) -> str:
    """Advise training on actions, for an operation that embeds them."""
    advice = "finetune the model on data with actions (v2w finetune), if that has not been done"
    return advice if operation.embeds_actions else ""


def advise_converting_again(operation: Operation) -> str:
    """Advise to convert again, for weights that are not what the operation makes of the base's."""
    return CONVERT_AGAIN


# ------------------------------------------------------------------------------------------- lines of the plan


def missing_rules(names: list[str], context: FixContext) -> list[str]:
    """Return rules for modules that have none in the plan, below a heading if there are any."""
    groups: dict[str, list[str]] = {}
    lines, rules = [], []
    for name in names:
        class_name = type(context.modules[name]).__name__
        if class_name in POSITION_CLASSES:
            groups.setdefault("frame_position", []).append(name)
        elif name in context.uncovered:
            operation = fitting(context.modules[name])
            if operation is None:
                groups.setdefault(f"no operation fits a {class_name}", []).append(name)
            else:
                groups.setdefault(operation.name, []).append(name)
    for label, group in groups.items():
        if " " in label:
            lines.append(f"{label}: {', '.join(group[:MAX_LINES])}")
        else:
            rules += [
                f"- {label}: {{at: {json.dumps(at, allow_nan=False)}}}"
                for at in patterns(group, context.modules)
            ]
    return [*(["add to the plan's operations, and convert again:", *rules] if rules else []), *lines]


def rule(operation: Operation) -> str:
    """Return the operation as the plan has it."""
    fields = {"at": operation.at} | operation.model_dump(exclude_defaults=True, exclude_none=True)
    written = ", ".join(f"{key}: {json.dumps(value, allow_nan=False)}" for key, value in fields.items())
    return f"- {operation.name}: {{{written}}}"


def patterns(names: Iterable[str], modules: Iterable[str]) -> list[str]:
    """Return as few patterns as possible that match the paths `names` and no other of `modules`; numbers become stars."""
    modules, found = list(modules), []
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", "*", name), []).append(name)
    for pattern, group in groups.items():
        exact = pattern.count("*") <= MAX_WILDCARDS and {
            path for path in modules if matches(pattern, path)
        } == set(group)
        found += [pattern] if exact else group
    return found
