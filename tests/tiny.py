"""Tiny models of every plan, built in memory from a fixed seed: float32, in eval mode, zero-initialised layers filled.

Building one takes a tenth of a second, so each test has its own, to change as it likes. The folders that the fixtures
`tiny_checkpoint` and `tiny_conversion` give are shared by the session, to be read only.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from v2w_convert.families.build import build_model
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.world.model import World

ACTIONS = 3
Config = Mapping[str, Any]


def tiny_plan(name: str, **view: int) -> Plan:
    """A shipped plan; `view`: `frames_per_block`, `window` and `sinks` other than the plan's."""
    return adjust_plan(read_plan(shipped_plans()[name]), **view)  # type: ignore[arg-type]


def tiny_model(name: str, config: Config | None = None, *, seed: int = 0) -> Any:
    """A base of a plan's tiny configuration.

    Args:
        name: The plan's.
        config: Entries that differ from the plan's tiny configuration.
        seed: Of its weights.
    """
    plan = tiny_plan(name)
    torch.manual_seed(seed)
    model = build_model(plan.base, {**plan.tiny, **(config or {})}).eval()
    randomize_zero_init(model)
    return model


def tiny_resolved(name: str, config: Config | None = None, **view: int) -> ResolvedPlan:
    """The plan on that configuration."""
    plan = tiny_plan(name, **view)
    return resolve(plan, {**plan.tiny, "_class_name": plan.base, **(config or {})})


def tiny_world(name: str, config: Config | None = None, *, seed: int = 0, **view: int) -> World:
    """A freshly converted world: its action layers end in zero."""
    resolved, model = tiny_resolved(name, config, **view), tiny_model(name, config, seed=seed)
    actions = resolved.trained_actions or ACTIONS
    apply_surgery(resolved, model, actions, seed=0)
    return World(model, resolved, actions)


def tiny_folded(name: str, config: Config | None = None, **view: int) -> tuple[World, nn.Module]:
    """A world with the base's own weights, none transferred (its action layers end in zero), and the untouched base."""
    resolved = tiny_resolved(name, config, **view)
    base, folded = (tiny_model(name, config) for _ in range(2))
    apply_surgery(resolved, folded, ACTIONS, seed=0)
    folded.load_state_dict(base.state_dict(), strict=False)
    return World(folded, resolved, ACTIONS), base


def component(plan: Plan) -> str:
    """The pipeline folder of the plan's class."""
    return "unet" if "UNet" in plan.base else "transformer"
