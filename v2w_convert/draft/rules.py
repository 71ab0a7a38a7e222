"""The plan's operations: for every module that was seen to need one, the one that fits its kind."""

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from v2w_convert.draft.attention import RecordedSite
from v2w_convert.draft.paths import patterns, starred
from v2w_convert.draft.watch import Watched
from v2w_convert.operations import OPERATIONS, Operation
from v2w_convert.operations.base import DraftFields
from v2w_convert.operations.fitting import fitting
from v2w_convert.plan.probe import MixingSite

Position = tuple[str, dict[str, Any]]  # path, fields of frame_position


@dataclass
class Rule:
    """One line of the plan's operations: its name, its fields, what is open about it."""

    name: str
    fields: dict[str, Any]
    open: list[str] = field(default_factory=list)


def site_rules(watched: Watched, whole: nn.Module) -> tuple[list[Rule], list[MixingSite]]:
    """Rules for the mixing sites, and the sites that no operation fits. `whole` is the model of the real size."""
    kinds: dict[str, DraftFields] = {}  # by starred path: modules in one list are built alike
    groups: dict[str, list[str]] = {}
    missing = []
    for site in watched.sites:
        kind = fitting(watched.model.get_submodule(site.name)) if site.name else None
        if kind is None:
            missing.append(site)
            continue
        star = starred(site.name, watched.model)
        if star not in kinds:
            kinds[star] = _measured(kind, site.name, watched)
        key = json.dumps([kind.name, kinds[star].fields, kinds[star].open])
        groups.setdefault(key, []).append(site.name)
    rules = []
    for key, paths in groups.items():
        name, fields, open_ = json.loads(key)
        rules += _written(name, fields, open_, paths, watched, whole)
    order = [kind.name for kind in OPERATIONS]
    return sorted(rules, key=lambda rule: order.index(rule.name)), missing


def position_rules(found: list[Position], watched: Watched, whole: nn.Module) -> list[Rule]:
    groups: dict[str, list[str]] = {}
    for path, fields in found:
        groups.setdefault(json.dumps(fields), []).append(path)
    return [
        rule
        for key, paths in groups.items()
        for rule in _written("frame_position", json.loads(key), [], paths, watched, whole)
    ]


def _measured(kind: type[Operation], path: str, watched: Watched) -> DraftFields:
    site = RecordedSite(path, watched.model, watched.given[path], watched.t, watched.config)
    try:
        return kind.draft(site)
    except Exception as error:  # whatever a module makes of being called outside its model
        return DraftFields(
            {}, (f"it could not be measured by itself ({' '.join(str(error).split())[:200]})",)
        )


def _written(
    name: str, fields: dict[str, Any], open_: list[str], paths: list[str], watched: Watched, whole: nn.Module
) -> list[Rule]:
    kind = next(kind for kind in OPERATIONS if kind.name == name)
    operation = kind.model_construct(**{"at": "", **fields})
    types = {type(watched.model.get_submodule(path)) for path in paths}

    def fits(path: str, module: nn.Module, operation: Operation = operation) -> bool:
        return type(module) in types and operation.why_not(module) is None

    found = patterns(paths, watched.model, whole, partial(fits))
    return [Rule(name, {"at": at, **fields}, list(open_)) for at in found]
