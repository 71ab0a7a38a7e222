"""A plan and a checkpoint's config: which module gets which operation, in plain numbers. Weights are not needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from v2w_convert.errors import V2WError, one_line
from v2w_convert.expression import evaluate_int
from v2w_convert.families.build import build_empty, complete_config
from v2w_convert.noise import NoiseSpec, check_sampling, noise_spec_from_scheduler
from v2w_convert.operations import Operation
from v2w_convert.plan.call import MAX_SIZE, ResolvedCall, resolve_call
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.match import match_operations
from v2w_convert.plan.registry import unmet_requirements


@dataclass(frozen=True)
class ResolvedPlan:
    """A plan for one checkpoint: nothing in it is an expression any more.

    Attributes:
        plan: With the checkpoint's own noise, and its operations resolved.
        config: The base's, complete.
        call: How the base is called.
        sites: Module path -> operation, in the order of the base's modules.
        frames_per_block: Latent frames that are denoised at once.
        base: On the meta device: names and shapes, to be read only.
    """

    plan: Plan
    config: dict[str, Any]
    call: ResolvedCall
    sites: dict[str, Operation]
    frames_per_block: int
    base: nn.Module = field(repr=False, compare=False)

    @property
    def noise(self) -> NoiseSpec:
        """The checkpoint's noise."""
        return self.plan.noise

    def frames(self, wanted: int) -> int:
        """How many frames to give the base where `wanted` would do: whole blocks, and some take one length only."""
        if self.call.clip_length is not None:
            return self.call.clip_length
        return -(-wanted // self.frames_per_block) * self.frames_per_block

    @property
    def trained_actions(self) -> int | None:
        """Numbers in the actions that the base was trained with; None: it was trained without."""
        found = (operation.trained_action_dim(self.config) for operation in self.sites.values())
        return next((number for number in found if number is not None), None)

    @property
    def window(self) -> int | None:
        """Frames that a frame sees, itself included; None: all."""
        windows = [w.frames for op in self.sites.values() if (w := op.attention_window) is not None]
        known = [frames for frames in windows if frames is not None]
        return max(known) if known and len(known) == len(windows) else None

    @property
    def period(self) -> int | None:
        """Frames after which additive positions come again; None: they do not."""
        periods = (operation.position_period for operation in self.sites.values())
        return min((period for period in periods if period is not None), default=None)


def resolve(
    plan: Plan, config: Mapping[str, Any], scheduler: Mapping[str, Any] | None = None
) -> ResolvedPlan:
    """Match every operation of the plan with the modules that `config` describes, and evaluate all expressions.

    Args:
        plan: The plan.
        config: The base's, as in its config.json.
        scheduler: The config of the checkpoint's scheduler: the noise is of the plan's kind, and as this says.

    Raises:
        V2WError: With all faults at once: an operation that matches nothing, two that match one module, one that does
            not fit, a window longer than the positions' period, a scheduler that is not served or cannot be sampled.
    """
    asked = f"apply the plan {plan.name}"
    class_name = config.get("_class_name", plan.base)
    try:
        model: nn.Module = build_empty(class_name, dict(config))
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(
            asked, f"{class_name} cannot be built from this config.json ({one_line(error)})"
        ) from None
    if class_name != plan.base:
        _, unmatched = match_operations(plan.operations, model)
        raise V2WError(asked, [f"the checkpoint is a {class_name}, the plan is for {plan.base}", *unmatched])
    config = complete_config(model)
    faults = unmet_requirements(plan, config)
    operations: list[Operation] = []
    for operation in plan.operations:
        try:
            operations.append(operation.resolve(config))
        except ValueError as error:
            faults.append(f"{operation.name} at {operation.at!r}: {error}")
    sites, unmatched = match_operations(operations, model)
    faults += [*unmatched, *unknown_tensors(operations, model)]
    call, n = None, 1
    try:
        call = resolve_call(plan.call, config)
        faults += call.faults()
        n = evaluate_int(plan.frames_per_block, config)
        faults += _block_faults(n, call, operations)
    except ValueError as error:
        faults += [str(fault) for fault in error.args]
    if faults or call is None:
        raise V2WError(asked, faults, "v2w inspect lists the modules through which frames mix")
    try:
        if scheduler is not None:
            plan = plan.model_copy(update={"noise": noise_spec_from_scheduler(scheduler, plan.noise)})
        with torch.device("cpu"):  # a model may be made on the meta device
            check_sampling(plan.noise.build())
    except V2WError as error:
        raise V2WError(asked, f"scheduler_config.json: {error.found}", error.try_) from None
    except Exception as error:  # whatever a scheduler makes of a config it was not given by its authors
        raise V2WError(
            asked, f"its noise cannot be built from scheduler_config.json ({one_line(error)})"
        ) from None
    plan = plan.model_copy(update={"operations": tuple(operations), "frames_per_block": n})
    resolved = ResolvedPlan(plan, config, call, sites, n, model)
    _check_positions(asked, resolved)
    return resolved


def _check_positions(asked: str, resolved: ResolvedPlan) -> None:
    """Raises V2WError if two frames in view would have one position."""
    period, window = resolved.period, resolved.window
    if period is None:
        return
    if any(w.sinks for op in resolved.sites.values() if (w := op.attention_window) is not None):
        raise V2WError(
            asked,
            f"sinks stay in view, and positions come again after {period} frames: two frames in view would have one "
            "position",
            "no sinks",
        )
    if window is None or window > period:
        raise V2WError(
            asked,
            f"window {window} is longer than the positions' period {period}: two frames in view would have one position",
            "a longer period or a shorter window",
        )


def _block_faults(n: int, call: ResolvedCall, operations: Sequence[Operation]) -> list[str]:
    """Why the base, or an operation, does not go with blocks of n frames."""
    packed = call.frames_per_token
    if not 1 <= n <= MAX_SIZE:
        return [f"frames_per_block: {n} frames, not 1 to {MAX_SIZE}"]
    if packed > 0 and n % packed:
        return [
            f"frames_per_block: {n}, but the base packs {packed} frames into one, so blocks have {packed}, "
            f"{2 * packed}, …"
        ]
    if n > 1 and call.clip_length is not None:
        return [f"frames_per_block: {n}, but the base takes clips of one length, or single frames"]
    return [f"{operation.name}: {fault}" for operation in operations for fault in operation.block_faults(n)]


def unknown_tensors(operations: Sequence[Operation], model: nn.Module) -> list[str]:
    """What tensors the operations name that the base does not have."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    named = dict.fromkeys(name for operation in operations for name in operation.named_tensors())
    return [f"the base has no tensor {name!r}" for name in named if name not in tensors]
