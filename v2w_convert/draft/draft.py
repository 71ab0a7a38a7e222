"""Draft a plan for a class that no plan is shipped for: call a small model, record it, and measure what is drafted."""

import inspect
import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import nn

from v2w_convert.draft.embeddings import noise_level_embedding, position_modules, table_positions
from v2w_convert.draft.find_call import FoundCall, find_call
from v2w_convert.draft.operation_entries import (
    OperationEntry,
    Position,
    mixing_entries,
    position_entries,
)
from v2w_convert.draft.recording import RecordedModel, build_random, to_float64
from v2w_convert.draft.tiny_config import smaller_configs
from v2w_convert.errors import V2WError
from v2w_convert.expression import evaluate_int
from v2w_convert.families import REFUSED
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.noise import noise_spec_from_scheduler
from v2w_convert.plan.probe import MixingSite
from v2w_convert.plan.read import parse_plan
from v2w_convert.plan.resolve import resolve
from v2w_convert.verification.claims.identity import ALLOWED, measure_identity
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.model import World

PLAN_VERSION = 2  # `v2w` of the plan's grammar
MAX_PARAMETERS = 500_000_000  # of a model that is called
DEFAULT_WINDOW = 16  # frames
CLIP_LENGTH_KEYS = ("num_frames", "video_length", "max_size[0]")  # of the clips that a base was trained on

Config = dict[str, Any]


@dataclass
class Draft:
    """A plan that was drafted, and what was measured of it.

    Attributes:
        plan: The plan as plain data; `parse_plan` reads it.
        open: What was not settled: key of the plan -> sentence.
        entries: The operations, with what is open about each.
        missing: Mixing sites that no operation fits.
        counts: Operation -> number of modules of the whole model.
        gap: Difference of the identity claim on the tiny configuration, relative to the largest value; None if it
            could not be measured.
        where: The first module that differs, or why nothing was measured.
    """

    plan: dict[str, Any]
    open: dict[str, str]
    entries: list[OperationEntry]
    missing: list[MixingSite]
    counts: dict[str, int]
    gap: float | None = None
    where: str = ""

    @property
    def holds(self) -> bool:
        """Whether the folded model equals the base: layout, conditions, positions and wiring are as drafted."""
        return self.gap is not None and self.gap <= ALLOWED and not self.missing


@torch.no_grad()
def draft(class_name: str, config: Config, scheduler: dict[str, Any] | None = None) -> Draft:
    """Draft a plan. No class is known by its name.

    Args:
        class_name: Of the base.
        config: Of the base, as in its config.json.
        scheduler: The config of the checkpoint's scheduler, if there is one.

    Raises:
        V2WError: The class is refused, cannot be built, or cannot be called as a model that denoises video.
    """
    asked = f"draft a plan for {class_name}"
    if class_name in REFUSED:
        raise V2WError(asked, REFUSED[class_name], "a bidirectional video model")
    try:
        with torch.device("meta"):
            whole = build_model(class_name, config)
    except Exception as error:  # anything: the config need not be one of its authors'
        raise V2WError(asked, f"it cannot be built from this config.json ({error})") from None
    tiny, found = _callable_config(class_name, complete_config(whole), asked)
    with exact():
        try:
            recorded = RecordedModel(class_name, tiny, found)
        except V2WError as error:
            raise V2WError(asked, f"{error.asked}: {error.found}", error.try_) from None
        except Exception as error:  # anything: a forward need not be written for float64
            raise V2WError(asked, f"it does not run in float64 ({error})") from None
        return _best_draft(recorded, whole, scheduler, asked)


def _callable_config(class_name: str, config: Config, asked: str) -> tuple[Config, FoundCall]:
    """The smallest configuration that can be built and called, and how it is called."""
    fault = V2WError(asked, "it is too large to be called", "a smaller configuration of that class")
    for tiny in smaller_configs(config):
        try:
            with torch.device("meta"):
                size = sum(p.numel() for p in build_model(class_name, tiny).parameters())
            if size > MAX_PARAMETERS:
                continue
            model = build_random(class_name, tiny)
        except Exception:  # anything: not every such configuration can be built
            continue
        try:
            return tiny, find_call(model, complete_config(model))
        except V2WError as error:
            fault = V2WError(asked, f"{error.asked}: {error.found}", error.try_)
    raise fault


def _best_draft(
    recorded: RecordedModel, whole: nn.Module, scheduler: dict[str, Any] | None, asked: str
) -> Draft:
    """Of the drafts with each possible table of positions, the first that holds, or the one with the smallest gap."""
    if not recorded.sites:
        raise V2WError(asked, "its frames do not mix anywhere", "a bidirectional video model")
    entries, missing = mixing_entries(recorded, whole)
    level = noise_level_embedding(
        recorded.model, recorded.reference, recorded.other_level, recorded.other_inputs
    )
    if level is None:
        raise V2WError(asked, "no module of it embeds the noise level alone, so the action cannot enter")
    drafts = []
    for positions in _possible_positions(recorded, entries):
        drafted = _assemble(recorded, whole, scheduler, entries, positions, level)
        drafted.missing = missing
        _measure(drafted, recorded, complete_config(whole))
        drafts.append(drafted)
        if drafted.holds:
            break
    return min(drafts, key=lambda drafted: math.inf if drafted.gap is None else drafted.gap)


def _possible_positions(recorded: RecordedModel, entries: list[OperationEntry]) -> list[list[Position]]:
    """Where positions in time may be added; more than one possibility only if the base takes one clip length."""
    found = position_modules(
        recorded.model, recorded.reference, recorded.other_inputs, recorded.t, recorded.config
    )
    clip_length = recorded.found.call.latents.clip_length
    if clip_length is None:
        return [found]
    attentions = [entry.fields["at"] for entry in entries if "attention" in entry.name]
    tables = table_positions(recorded.model, attentions, recorded.t, clip_length)
    return [[*((path, dict(fields)) for path, fields in found), *table] for table in tables]


def _assemble(
    recorded: RecordedModel,
    whole: nn.Module,
    scheduler: dict[str, Any] | None,
    entries: list[OperationEntry],
    positions: list[Position],
    level: str,
) -> Draft:
    """The draft, not measured yet.

    Args:
        recorded: The tiny model.
        whole: The model of the real size.
        scheduler: The config of the checkpoint's scheduler, if there is one.
        entries: For the mixing sites.
        positions: Where positions in time are added.
        level: The module that embeds the noise level.
    """
    notes, config = dict(recorded.found.open), recorded.config
    window, reason = _window(positions, config)
    for _, fields in positions:
        if "period" not in fields:  # embedded, without a table that ends
            fields["period"] = 2 * DEFAULT_WINDOW if isinstance(window, int) else f"2 * {window}"
            notes["period"] = "indices begin again after so many frames: a guess, twice the window"
    if any("window" in entry.kind.options for entry in entries):
        notes["window"] = f"{reason}; the length of the clips that the base was trained on is best"
    entries = [
        OperationEntry(entry.name, entry.kind.adjusted(entry.fields, "window", window), entry.open)
        if "window" in entry.kind.options
        else entry
        for entry in entries
    ]
    entries = [
        *entries,
        *position_entries(positions, recorded, whole),
        OperationEntry("action", {"at": level}),
    ]
    plan = {
        "v2w": PLAN_VERSION,
        "name": _plan_name(recorded.class_name),
        "base": recorded.class_name,
        "tiny": _tiny(recorded),
        "noise": _noise(config, scheduler, notes),
        "call": recorded.found.call.model_dump(mode="json", exclude_defaults=True),
        "operations": [{entry.name: entry.fields} for entry in entries],
    }
    return Draft(plan, notes, entries, [], {})


def _measure(drafted: Draft, recorded: RecordedModel, config: Config) -> None:
    """Measure the identity claim on the tiny configuration, and count the sites of the whole model."""
    plan = parse_plan(drafted.plan, f"draft a plan for {recorded.class_name}")
    try:
        for operation in resolve(plan, config).sites.values():
            drafted.counts[operation.name] = drafted.counts.get(operation.name, 0) + 1
        base = to_float64(build_random(recorded.class_name, recorded.tiny))
        resolved = resolve(plan, recorded.config)
        claim = measure_identity(base, World(base, resolved, 1).to(torch.float64))
    except Exception as error:  # anything: a plan that does not fit, a site that was misjudged
        drafted.where = " ".join(str(error).split())[:300]
        return
    if math.isfinite(claim.measured or 0.0):
        drafted.gap = claim.measured
    drafted.where = claim.where


def _window(positions: list[Position], config: Config) -> tuple[int | str, str]:
    """Frames that a frame sees, and why so many."""
    period = next((fields["period"] for _, fields in positions if "period" in fields), None)
    if period is not None:
        half = f"({period}) // 2" if " " in str(period) else f"{period} // 2"
        return half, f"a frame sees {half} frames, half of the positions' period"
    for key in CLIP_LENGTH_KEYS:
        with suppress(ValueError):
            if evaluate_int(key, config) > 1:
                return key, f"a frame sees {key} frames, as the config says"
    return DEFAULT_WINDOW, f"a frame sees {DEFAULT_WINDOW} frames: a guess"


def _noise(config: Config, scheduler: dict[str, Any] | None, notes: dict[str, str]) -> dict[str, Any]:
    if scheduler is not None:
        return noise_spec_from_scheduler(scheduler).model_dump(include={"kind", "prediction"})
    notes["noise"] = (
        "a guess, since the folder has no scheduler's config: ddpm, edm or flow, and the prediction type"
    )
    if "block_out_channels" in config:  # UNets are older than flow matching
        return {"kind": "ddpm", "prediction": "epsilon"}
    return {"kind": "flow", "prediction": "flow"}


def _tiny(recorded: RecordedModel) -> Config:
    """The tiny configuration, without the class's defaults."""
    parameters = inspect.signature(getattr(diffusers, recorded.class_name).__init__).parameters
    plain: Config = json.loads(
        json.dumps({k: v for k, v in recorded.tiny.items() if k in parameters}, allow_nan=False)
    )
    default = {
        k: list(p.default) if isinstance(p.default, tuple) else p.default for k, p in parameters.items()
    }
    return {key: value for key, value in plain.items() if value != default[key]}


def _plan_name(class_name: str) -> str:
    """WanVACETransformer3DModel -> wan-vace."""
    stem = re.sub(r"(Transformer)?(\d?D)?(Condition)?(Model)?$", "", class_name) or class_name
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", stem.replace("UNet", "Unet"))
    return name.lower().replace("_", "-")
