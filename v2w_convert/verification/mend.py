"""What would mend a claim that fails: a line of the plan, where there is one."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from v2w_convert.operations import Operation
from v2w_convert.operations.base import Problem
from v2w_convert.operations.fitting import fitting
from v2w_convert.plan.pattern import MAX_WILDCARDS, matches
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.catalogue import CATALOGUE
from v2w_convert.verification.claims import Claim

AGAIN = "convert again: v2w convert BASE OUT"
LINES = 8  # at most
FILES = {
    "tensors-complete": AGAIN,
    "tensors-kept": AGAIN,
    "tensors-transferred": AGAIN,
    "tensors-exact": AGAIN,
    "tensors-added": AGAIN,
    "files": f"{AGAIN}; a run of finetuning: copy its files again",
    "config": AGAIN,
    "base-files": "--base: the base that was converted, as it was then; v2w.json has its name and hashes",
    "base-tensors-complete": "--base: a base whose files are whole; v2w.json has their names and hashes",
    "base-mixes": "`call` in the plan: the base is not given the frames as one clip",
}
POSITIONS = ("Timesteps",)  # classes that make positions of indices
OF_THE_PAST = ("past-seen", "sites-see-past", "gradients-reach-past")


def mended(claims: list[Claim], resolved: ResolvedPlan) -> list[Claim]:
    """The claims; those that fail have their `mend`."""
    if all(claim.ok for claim in claims):
        return claims
    modules = dict(resolved.base.named_modules())
    missing = {name for claim in claims if claim.name == "coverage" for name in claim.where.split(", ")}
    return [
        claim if claim.ok else replace(claim, mend=_mend(claim, resolved, modules, missing))
        for claim in claims
    ]


def _mend(claim: Claim, resolved: ResolvedPlan, modules: Mapping[str, nn.Module], missing: set[str]) -> str:
    """`missing`: modules through which the base's frames mix without a rule."""
    if claim.name in FILES:
        return FILES[claim.name]
    named = [name for name in claim.where.split(", ") if name in modules]
    said = _added([name for name in named if name not in resolved.sites], modules, missing)
    for operation in dict.fromkeys(resolved.sites[name] for name in named if name in resolved.sites):
        said += _changed(operation, claim.name)
    if claim.name == "identity" and not said:
        said = ["`call` in the plan: the folded model is given something else than the base"]
    return "\n".join([*said[:LINES], *([f"and {len(said) - LINES} more"] if len(said) > LINES else [])])


def _added(names: list[str], modules: Mapping[str, nn.Module], missing: set[str]) -> list[str]:
    """Rules for modules that the plan has none for."""
    groups: dict[str, list[str]] = {}
    for name in names:
        kind = type(modules[name]).__name__
        if kind in POSITIONS:
            groups.setdefault("frame_position", []).append(name)
        elif name in missing:
            operation = fitting(modules[name])
            groups.setdefault(
                f"no operation fits a {kind}" if operation is None else operation.name, []
            ).append(name)
    lines = []
    for said, group in groups.items():
        if " " in said:
            lines.append(f"{said}: {', '.join(group[:LINES])}")
        else:
            lines += [f"- {said}: {{at: {json.dumps(at)}}}" for at in patterns(group, modules)]
    return (
        ["add to the plan's operations, and convert again:", *lines]
        if any(x[0] == "-" for x in lines)
        else lines
    )


def _changed(operation: Operation, claim: str) -> list[str]:
    """What to do about the rule that made a site."""
    made = f"the rule that made it: {rule(operation)}"
    topic = CATALOGUE[claim].topic
    problems: list[Problem] = []
    if topic in ("causality", "streaming"):
        problems.append("leaks_future")
    if claim in OF_THE_PAST:
        problems.append("forgets_past")
    for problem in problems:
        if suggested := operation.suggestion(problem):
            return [f"{made}; {suggested}"]
    if claim == "promises":
        return [f"{made}; {AGAIN}"]
    if topic == "actions":
        return [f"{made}; finetune it on data with actions (v2w finetune), if it was not"]
    return [made]


def rule(operation: Operation) -> str:
    """The operation as the plan says it."""
    fields = {"at": operation.at} | operation.model_dump(exclude_defaults=True, exclude_none=True)
    written = ", ".join(f"{key}: {json.dumps(value)}" for key, value in fields.items())
    return f"- {operation.name}: {{{written}}}"


def patterns(names: Iterable[str], modules: Iterable[str]) -> list[str]:
    """As few patterns as can be that match these paths, and of all modules no other; numbers become stars."""
    modules, found = list(modules), []
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", "*", name), []).append(name)
    for star, group in groups.items():
        alone = star.count("*") <= MAX_WILDCARDS and {path for path in modules if matches(star, path)} == set(
            group
        )
        found += [star] if alone else group
    return found
