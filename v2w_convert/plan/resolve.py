"""A plan and a checkpoint's config: which module gets which operation. Weights are not needed."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from v2w_convert.errors import V2WError, one_line
from v2w_convert.expression import evaluate_int
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.noise import NoiseSpec, noise_spec_from_scheduler
from v2w_convert.operations import CausalAttention, FramePosition, Operation, TrainedAction
from v2w_convert.plan.call import condition_shape, fill_value
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.match import match_operations
from v2w_convert.plan.registry import unmet_requirements

MOST = 10_000  # frames or channels at once
LARGEST = 2**24  # numbers in a condition


@dataclass(frozen=True)
class ResolvedPlan:
    """A plan made definite for one checkpoint.

    plan    with the checkpoint's own noise, and names of config entries replaced by their numbers
    config  of the base
    sites   module path -> operation, in the order of the base's modules
    base    on the meta device: names and shapes, to be read only
    """

    plan: Plan
    config: dict[str, Any]
    sites: dict[str, Operation]
    base: nn.Module = field(repr=False, compare=False)

    @property
    def noise(self) -> NoiseSpec:
        return self.plan.noise

    @property
    def channels(self) -> int:
        return evaluate_int(self.plan.call.latents.channels, self.config)

    @property
    def frames_per_block(self) -> int:
        """Frames to a block."""
        assert isinstance(self.plan.frames_per_block, int), "the plan is not resolved"
        return self.plan.frames_per_block

    @property
    def frames_per_token(self) -> int:
        """Frames to a token of the base."""
        return evaluate_int(self.plan.call.latents.frames_per_token, self.config)

    def frames(self, wanted: int) -> int:
        """How many frames to give the base where `wanted` would do: whole blocks, and some take one length only."""
        only = self.plan.call.latents.clip_length
        return (
            -(-wanted // self.frames_per_block) * self.frames_per_block
            if only is None
            else evaluate_int(only, self.config)
        )

    @property
    def trained_actions(self) -> int | None:
        """Numbers in the actions that the base was trained with; None: it was trained without."""
        trained = any(isinstance(operation, TrainedAction) for operation in self.sites.values())
        return int(self.config["action_dim"]) if trained else None

    @property
    def window(self) -> int | None:
        """Frames that a frame sees, itself included; None: all."""
        windows = [op.window for op in self.sites.values() if isinstance(op, CausalAttention)]
        return max((w for w in windows if isinstance(w, int)), default=None) if None not in windows else None

    @property
    def period(self) -> int | None:
        periods = [op.period for op in self.sites.values() if isinstance(op, FramePosition)]
        return min((p for p in periods if isinstance(p, int)), default=None)


def resolve(plan: Plan, config: dict[str, Any], scheduler: dict[str, Any] | None = None) -> ResolvedPlan:
    """Match every rule of the plan against the modules that `config` describes.

    Raises V2WError, with all faults at once: a rule that matches nothing, two that match one module,
    an operation that does not fit, a window longer than the positions' period.
    """
    asked = f"apply the plan {plan.name}"
    class_name = config.get("_class_name", plan.base)
    try:
        with torch.device("meta"):
            model = build_model(class_name, config)
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(
            asked, f"{class_name} cannot be built from this config.json ({one_line(error)})"
        ) from None
    if class_name != plan.base:
        _, unmatched = match_operations(list(plan.operations), model)
        raise V2WError(asked, [f"the checkpoint is a {class_name}, the plan is for {plan.base}", *unmatched])
    config = complete_config(model)
    operations, faults = [], unmet_requirements(plan, config)
    for operation in plan.operations:
        try:
            operations.append(operation.resolve(config))
        except ValueError as error:
            faults.append(f"{operation.name} at {operation.at!r}: {error}")
    sites, unmatched = match_operations(operations, model)
    faults += [*unmatched, *check_names(plan, operations, model, config)]
    n = 1
    try:
        n = _block(plan, operations, config)
    except ValueError as error:
        faults.append(str(error))
    if faults:
        raise V2WError(asked, faults, "v2w inspect lists the modules through which frames mix")
    try:
        if scheduler is not None:
            plan = plan.model_copy(update={"noise": noise_spec_from_scheduler(scheduler)})
        plan.noise.build()
    except Exception as error:  # whatever a scheduler makes of a config it was not given by its authors
        raise V2WError(
            asked, f"its noise cannot be built from scheduler_config.json ({one_line(error)})"
        ) from None
    plan = plan.model_copy(update={"operations": tuple(operations), "frames_per_block": n})
    resolved = ResolvedPlan(plan, config, sites, model)
    if resolved.period is not None and any(
        isinstance(op, CausalAttention) and op.sinks for op in sites.values()
    ):
        raise V2WError(
            asked,
            f"sinks stay in view, and their positions come again after {resolved.period} frames: two frames in "
            "view would have one position",
            "no sinks",
        )
    if resolved.period is not None and (resolved.window is None or resolved.window > resolved.period):
        raise V2WError(
            asked,
            f"window {resolved.window} is longer than the positions' period {resolved.period}: two frames in "
            "view would have one position",
            "a longer period or a shorter window",
        )
    return resolved


def _block(plan: Plan, operations: list[Operation], config: dict[str, Any]) -> int:
    """Frames to a block. Raises ValueError if the base, or the plan's windows, do not come in such blocks."""
    n, packed = (
        evaluate_int(plan.frames_per_block, config),
        evaluate_int(plan.call.latents.frames_per_token, config),
    )
    if not 1 <= n <= MOST or n % packed:
        raise ValueError(
            f"frames_per_block: {n}, but the base packs {packed} frames into one, so blocks have {packed}, {2 * packed}, …"
            if packed > 1
            else f"frames_per_block: {n} frames"
        )
    if n > 1 and plan.call.latents.clip_length is not None:
        raise ValueError(f"frames_per_block: {n}, but the base takes clips of one length, or single frames")
    if n > 1 and any(isinstance(operation, TrainedAction) for operation in operations):
        raise ValueError(f"frames_per_block: {n}, but the base was trained with one action at a time")
    for operation in operations:
        if not isinstance(operation, CausalAttention):
            continue
        if isinstance(operation.window, int) and operation.window < n:
            raise ValueError(f"causal_attention: a window of {operation.window} is less than a block of {n}")
        if operation.sinks % n:
            raise ValueError(f"causal_attention: {operation.sinks} sinks are not whole blocks of {n}")
    return n


def check_names(
    plan: Plan, operations: list[Operation], model: nn.Module, config: dict[str, Any]
) -> list[str]:
    """What the plan names and the base does not have: tensors of its own, and entries of its config."""
    tables = [op.table for op in operations if isinstance(op, FramePosition) and op.table is not None]
    rotary = [op.rotary for op in operations if isinstance(op, CausalAttention) and op.rotary is not None]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    named = [*tables, *(r.learned for r in rotary if r.learned is not None)]
    faults = [f"the base has no tensor {name!r}" for name in dict.fromkeys(named) if name not in tensors]
    latents = plan.call.latents
    sizes = {
        "channels": latents.channels,
        "frames": latents.clip_length or 1,
        "packed": latents.frames_per_token,
    }
    for what, size in sizes.items():
        try:
            if not 1 <= evaluate_int(size, config) <= MOST:
                raise ValueError(f"{evaluate_int(size, config)}, not 1 to {MOST}")
        except ValueError as error:
            faults.append(f"call.latents.{what}: {error}")
    for name, condition in plan.call.active_conditions(config).items():
        try:
            shape = condition_shape(plan.call, name, config, h=1, w=1)
            if min(shape, default=0) < 0 or math.prod(shape) > LARGEST:
                raise ValueError(f"a shape of {shape}")
            fill, last = fill_value(condition, config), shape[-1] if shape else 1
            if isinstance(fill, list) and len(fill) not in (1, last):
                raise ValueError(f"{len(fill)} numbers do not fill a row of {last}")
        except ValueError as error:
            faults.append(f"call.conditions.{name}: {error}")
    return faults
