"""The entries of a draft's `operations`: for every module that needs an operation, the one that fits it."""

import json
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from v2w_convert.draft.attention import RecordedSite
from v2w_convert.draft.recording import RecordedModel
from v2w_convert.draft.site_patterns import patterns_for, star_path
from v2w_convert.operations import OPERATIONS, Operation
from v2w_convert.operations.base import DraftFields
from v2w_convert.operations.fitting import fitting
from v2w_convert.plan.probe import MixingSite

Position = tuple[str, dict[str, Any]]  # path, fields of frame_position


@dataclass
class OperationEntry:
    """One entry of the plan's operations.

    Attributes:
        name: The operation's.
        fields: Its fields.
        open: What is open about it, in sentences.
    """

    name: str
    fields: dict[str, Any]
    open: list[str] = field(default_factory=list)

    @property
    def kind(self) -> type[Operation]:
        """The operation."""
        return next(kind for kind in OPERATIONS if kind.name == self.name)


def mixing_entries(
    recorded: RecordedModel, whole: nn.Module
) -> tuple[list[OperationEntry], list[MixingSite]]:
    """Entries for the mixing sites, and the sites that no operation fits.

    Args:
        recorded: The tiny model.
        whole: The model of the real size, which the patterns must fit too.
    """
    measured: dict[str, DraftFields] = {}  # by starred path: modules in one list are alike
    groups: dict[str, list[str]] = {}
    missing = []
    for site in recorded.sites:
        kind = fitting(recorded.model.get_submodule(site.name)) if site.name else None
        if kind is None:
            missing.append(site)
            continue
        star = star_path(site.name, recorded.model)
        if star not in measured:
            measured[star] = _measure(kind, site.name, recorded)
        key = json.dumps([kind.name, measured[star].fields, measured[star].open], allow_nan=False)
        groups.setdefault(key, []).append(site.name)
    entries = []
    for key, paths in groups.items():
        name, fields, open_ = json.loads(key)
        entries += _with_patterns(OperationEntry(name, fields, open_), paths, recorded, whole)
    order = [kind.name for kind in OPERATIONS]
    return sorted(entries, key=lambda entry: order.index(entry.name)), missing


def position_entries(
    positions: list[Position], recorded: RecordedModel, whole: nn.Module
) -> list[OperationEntry]:
    """Entries for modules that add positions."""
    groups: dict[str, list[str]] = {}
    for path, fields in positions:
        groups.setdefault(json.dumps(fields, allow_nan=False), []).append(path)
    return [
        entry
        for fields, paths in groups.items()
        for entry in _with_patterns(
            OperationEntry("frame_position", json.loads(fields)), paths, recorded, whole
        )
    ]


def _measure(kind: type[Operation], path: str, recorded: RecordedModel) -> DraftFields:
    site = RecordedSite(path, recorded.model, recorded.arguments[path], recorded.t, recorded.config)
    try:
        return kind.draft(site)
    except Exception as error:  # anything: a module is called outside its model
        sentence = " ".join(str(error).split())[:200]
        return DraftFields({}, (f"it could not be measured by itself ({sentence})",))


def _with_patterns(
    entry: OperationEntry, paths: list[str], recorded: RecordedModel, whole: nn.Module
) -> list[OperationEntry]:
    """The entry once for each pattern that `paths` need."""
    operation = entry.kind.model_construct(None, **{"at": "", **entry.fields})
    types = {type(recorded.model.get_submodule(path)) for path in paths}

    def fits(_: str, module: nn.Module) -> bool:
        return type(module) in types and operation.why_not(module) is None

    return [
        OperationEntry(entry.name, {"at": at, **entry.fields}, list(entry.open))
        for at in patterns_for(paths, recorded.model, whole, fits)
    ]
