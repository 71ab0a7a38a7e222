"""Draft a plan for a class that no plan is shipped for: by calling it, watching it, and measuring what is drafted."""

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

from v2w_convert.draft.forward import Found, find_call
from v2w_convert.draft.places import level_embedding, positions, tables
from v2w_convert.draft.rules import Rule, position_rules, site_rules
from v2w_convert.draft.shrink import smaller
from v2w_convert.draft.watch import Watched, built
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

LARGEST = 500_000_000  # parameters of a model that is tried out
WINDOW = 16
LENGTHS = ("num_frames", "video_length", "max_size[0]")  # of the clips that a base was trained on


@dataclass
class Draft:
    """plan     what was drafted, as plain data: `parse_plan` reads it
    open     what was not settled: place in the plan -> sentence
    rules    the operations, with what is open about each
    missing  mixing sites that no operation fits
    counts   operation -> modules of the whole model that it is for
    gap      of the identity claim on the tiny configuration; None: it could not be measured
    where    the first module that differs, or why nothing was measured
    """

    plan: dict[str, Any]
    open: dict[str, str]
    rules: list[Rule]
    missing: list[MixingSite]
    counts: dict[str, int]
    gap: float | None = None
    where: str = ""

    @property
    def holds(self) -> bool:
        """Whether the folded model is the base: layout, conditions, positions and wiring are as drafted."""
        return self.gap is not None and self.gap <= ALLOWED and not self.missing


@torch.no_grad()
def draft(class_name: str, config: dict[str, Any], scheduler: dict[str, Any] | None = None) -> Draft:
    """A plan for models of `class_name` with this config, and what was measured of it.

    Knows no class by its name. Raises V2WError if the class is refused, cannot be built, or is not called as a model
    that denoises video.
    """
    asked = f"draft a plan for {class_name}"
    if class_name in REFUSED:
        raise V2WError(asked, REFUSED[class_name], "a bidirectional video model")
    try:
        with torch.device("meta"):
            whole = build_model(class_name, config)
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(asked, f"it cannot be built from this config.json ({error})") from None
    tiny, found = _callable(class_name, complete_config(whole), asked)
    with exact():
        try:
            watched = Watched(class_name, tiny, found)
        except V2WError as error:
            raise V2WError(asked, f"{error.asked}: {error.found}", error.try_) from None
        except Exception as error:  # whatever a forward makes of float64
            raise V2WError(asked, f"it does not run in float64 ({error})") from None
        return _drafted(watched, whole, scheduler, asked)


def _callable(class_name: str, config: dict[str, Any], asked: str) -> tuple[dict[str, Any], Found]:
    """The smallest configuration that can be built and called, and how."""
    fault = V2WError(asked, "it is too large to be tried out", "a smaller configuration of that class")
    for tiny in smaller(config):
        try:
            with torch.device("meta"):
                size = sum(p.numel() for p in build_model(class_name, tiny).parameters())
            if size > LARGEST:
                continue
            model = built(class_name, tiny)
        except Exception:  # a configuration that nobody meant need not build
            continue
        try:
            return tiny, find_call(model, complete_config(model))
        except V2WError as error:
            fault = V2WError(asked, f"{error.asked}: {error.found}", error.try_)
    raise fault


def _drafted(watched: Watched, whole: nn.Module, scheduler: dict[str, Any] | None, asked: str) -> Draft:
    call, notes = watched.found.call, dict(watched.found.open)
    config = watched.config
    if not watched.sites:
        raise V2WError(asked, "its frames do not mix anywhere", "a bidirectional video model")
    rules, missing = site_rules(watched, whole)
    placed = positions(watched.model, watched.same, watched.rest, watched.t, config)
    possible = (
        [[]]
        if call.latents.clip_length is None
        else tables(watched.model, rules, watched.t, call.latents.clip_length)
    )
    at = level_embedding(watched.model, watched.same, watched.level, watched.rest)
    if at is None:
        raise V2WError(asked, "no module of it embeds the noise level alone, so the action cannot enter")

    results = []
    for extra in possible:
        found = [*placed, *extra]
        window, why = _window(found, config)
        for _, fields in found:
            if "period" not in fields:  # embedded, without a table that ends
                fields["period"] = 2 * WINDOW if isinstance(window, int) else f"2 * {window}"
                notes["period"] = (
                    "after so many frames indices begin again: about twice the clips it was trained on"
                )
        trial = [
            Rule(r.name, {**r.fields, "window": window} if r.name == "causal_attention" else r.fields, r.open)
            for r in rules
        ]
        if any(rule.name == "causal_attention" for rule in rules):
            notes["window"] = f"{why}; what the base was trained on is best"
        trial += [*position_rules(found, watched, whole), Rule("action", {"at": at})]
        plan = {
            "v2w": 1,
            "name": _name(watched.class_name),
            "base": watched.class_name,
            "tiny": _tiny(watched),
            "noise": _noise(config, scheduler, notes),
            "call": call.model_dump(mode="json", exclude_defaults=True),
            "operations": [{rule.name: rule.fields} for rule in trial],
        }
        result = Draft(plan, dict(notes), trial, missing, {})
        _measure(result, watched, complete_config(whole))
        results.append(result)
        if result.holds:
            break
    return min(results, key=lambda r: math.inf if r.gap is None else r.gap)


def _measure(result: Draft, watched: Watched, config: dict[str, Any]) -> None:
    """The identity claim on the tiny configuration, and the sites of the whole model."""
    plan = parse_plan(result.plan, f"draft a plan for {watched.class_name}")
    try:
        for operation in resolve(plan, config).sites.values():
            result.counts[operation.name] = result.counts.get(operation.name, 0) + 1
        base = nn.Module.to(built(watched.class_name, watched.tiny), torch.float64)
        resolved = resolve(plan, watched.config)
        claim = measure_identity(base, World(base, resolved, 1).to(torch.float64))
    except Exception as error:  # a plan that does not fit, or a site that was misjudged
        result.where = " ".join(str(error).split())[:300]
        return
    if math.isfinite(claim.measured or 0.0):
        result.gap = claim.measured
    result.where = claim.where


def _window(found: list[tuple[str, dict[str, Any]]], config: dict[str, Any]) -> tuple[int | str, str]:
    """Frames that a frame sees, and why so many."""
    period = next((fields["period"] for _, fields in found if "period" in fields), None)
    if period is not None:
        half = f"({period}) // 2" if " " in str(period) else f"{period} // 2"
        return half, f"a frame sees {half} frames, half of the positions' period"
    for key in LENGTHS:
        with suppress(ValueError):
            if evaluate_int(key, config) > 1:
                return key, f"a frame sees {key} frames, as the config says"
    return WINDOW, f"a frame sees {WINDOW} frames: a guess"


def _noise(config: dict[str, Any], scheduler: dict[str, Any] | None, notes: dict[str, str]) -> dict[str, str]:
    if scheduler is not None:
        return noise_spec_from_scheduler(scheduler).model_dump(include={"kind", "prediction"})
    notes["noise"] = (
        "a guess, since the folder has no scheduler's config; ddpm, edm or flow, and what it predicts"
    )
    if "block_out_channels" in config:  # UNets are older than flow matching
        return {"kind": "ddpm", "prediction": "epsilon"}
    return {"kind": "flow", "prediction": "flow"}


def _tiny(watched: Watched) -> dict[str, Any]:
    """The tiny configuration, without what the class takes for granted."""
    parameters = inspect.signature(getattr(diffusers, watched.class_name).__init__).parameters
    plain: dict[str, Any] = json.loads(json.dumps({k: v for k, v in watched.tiny.items() if k in parameters}))
    default = {
        k: list(p.default) if isinstance(p.default, tuple) else p.default for k, p in parameters.items()
    }
    return {key: value for key, value in plain.items() if value != default[key]}


def _name(class_name: str) -> str:
    """WanVACETransformer3DModel -> wan-vace"""
    stem = re.sub(r"(Transformer)?(\d?D)?(Condition)?(Model)?$", "", class_name) or class_name
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", stem.replace("UNet", "Unet"))
    return parts.lower().replace("_", "-")
