"""A plan and a checkpoint's config: which module gets which operation. Weights are not needed."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from v2w_convert.checkpoint.headers import MAX_TENSORS
from v2w_convert.errors import V2WError
from v2w_convert.expression import number
from v2w_convert.families import REFUSED, model_class
from v2w_convert.noise import NoiseSpec, spec_of_scheduler
from v2w_convert.operations import CausalAttention, FramePosition, Operation, TrainedAction
from v2w_convert.plan.call import call_base, filling, joined, null, shape_of
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.pattern import matches, nearest
from v2w_convert.plan.probe import MixingSite, mixing_sites, wake
from v2w_convert.plan.read import read_plan, shipped

MOST = 10_000  # frames or channels at once
LARGEST = 2**24  # numbers in a condition
HUGE = 10_000_000  # the largest number in a config
TINY = 50_000_000  # numbers in the configuration for the probe


@dataclass(frozen=True)
class Resolved:
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
        return number(self.plan.call.latents.channels, self.config)

    @property
    def n(self) -> int:
        """Frames to a block."""
        assert isinstance(self.plan.frames_per_block, int), "the plan is not resolved"
        return self.plan.frames_per_block

    @property
    def packed(self) -> int:
        """Frames to a token of the base."""
        return number(self.plan.call.latents.packed, self.config)

    def frames(self, wanted: int) -> int:
        """How many frames to give the base where `wanted` would do: whole blocks, and some take one length only."""
        only = self.plan.call.latents.frames
        return -(-wanted // self.n) * self.n if only is None else number(only, self.config)

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


def build(class_name: str, config: dict[str, Any], *, unfilled: bool = False) -> nn.Module:
    """A base with its initial weights; or, `unfilled`, with parameters on the meta device, to be assigned.

    Buffers hold their values either way, those besides that no checkpoint stores.

    Raises ValueError if there is no model of that name, and whatever the class makes of a bad config.
    """
    clean = {key: value for key, value in config.items() if key != "v2w"}
    if huge := [key for key, value in clean.items() if _huge(value)]:
        raise ValueError(f"{', '.join(huge)}: over {HUGE}, which is no size of a model")
    with _limited(), _unfilled() if unfilled else nullcontext():
        return model_class(class_name).from_config(clean)


def _huge(value: Any) -> bool:
    """Whether a number in it would make a list that fills the memory, before there is a parameter to count."""
    if isinstance(value, list | tuple):
        return any(map(_huge, value))
    return isinstance(value, int | float) and abs(value) > HUGE


@contextmanager
def _unfilled() -> Iterator[None]:
    """Within it, parameters are put on the meta device as soon as a module has them."""

    def without_values(module: nn.Module, name: str, value: Any) -> nn.Parameter | None:
        filled = isinstance(value, nn.Parameter) and not value.is_meta
        return nn.Parameter(value.detach().to("meta"), value.requires_grad) if filled else None

    hook = register_module_parameter_registration_hook(without_values)  # type: ignore[arg-type]
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _limited() -> Iterator[None]:
    """Within it, a model of more parameters than a checkpoint may hold is not built on: sizes come from a file."""
    count = 0

    def counted(module: nn.Module, name: str, value: Any) -> None:
        nonlocal count
        count += 1
        if count > 2 * MAX_TENSORS:
            raise ValueError(f"it would have more than {MAX_TENSORS} parameters")

    hooks = [
        register_module_parameter_registration_hook(counted),
        register_module_module_registration_hook(counted),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def complete(model: Any) -> dict[str, Any]:
    """The model's config with every default that its file leaves out."""
    return {key: value for key, value in dict(model.config).items() if key != "_use_default_values"}


def plan_for(class_name: str, config: dict[str, Any] | None = None, mend: bool = False) -> Plan:
    """The shipped plan for a class of models, and for this config of it, if there are several.

    mend  whether the plan should mend what another one for that class leaves as it is

    Raises V2WError, with the reason where the class cannot be served, or the config is one that no plan serves.
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
    fitting = [plan for plan in fitting if (plan.mends is not None) == mend]
    if not fitting:
        raise V2WError(f"mend a {class_name}", "no shipped plan mends that class", "without --mend")
    if config is None:
        return fitting[0]
    reasons = {plan.name: unserved(plan, config) for plan in fitting}
    for plan in fitting:
        if not reasons[plan.name]:
            return plan
    raise V2WError(asked, [f"{name}: {reason}" for name, found in reasons.items() for reason in found])


def planned(class_name: str) -> bool:
    """Whether it is settled what becomes of the class: by a shipped plan, or by a reason why not."""
    return class_name in REFUSED or bool(_plans_of(class_name))


def _plans_of(class_name: str) -> list[Plan]:
    # YAML takes long to parse: only plans that have the name in them are.
    files = [file for file in shipped().values() if class_name in file.read_text("utf-8")]
    return [plan for plan in map(read_plan, files) if plan.base == class_name]


def unserved(plan: Plan, config: dict[str, Any]) -> list[str]:
    """What the plan requires of the base's config and does not find there, or in the class's defaults."""
    defaults = inspect.signature(model_class(plan.base).__init__).parameters
    found = {
        key: config.get(key, defaults[key].default if key in defaults else None) for key in plan.requires
    }
    return [
        f"the base's {key} is {found[key]!r}, the plan serves {' or '.join(map(repr, values))}"
        for key, values in plan.requires.items()
        if _plain(found[key]) not in values
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def resolve(plan: Plan, config: dict[str, Any], scheduler: dict[str, Any] | None = None) -> Resolved:
    """Match every rule of the plan against the modules that `config` describes.

    Raises V2WError, with all faults at once: a rule that matches nothing, two that match one module,
    an operation that does not fit, a window longer than the positions' period.
    """
    asked = f"apply the plan {plan.name}"
    class_name = config.get("_class_name", plan.base)
    try:
        with torch.device("meta"):
            model = build(class_name, config)
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(
            asked, f"{class_name} cannot be built from this config.json ({_line(error)})"
        ) from None
    if class_name != plan.base:
        _, unmatched = match(list(plan.operations), model)
        raise V2WError(asked, [f"the checkpoint is a {class_name}, the plan is for {plan.base}", *unmatched])
    config = complete(model)
    operations, faults = [], unserved(plan, config)
    for operation in plan.operations:
        try:
            operations.append(operation.definite(config))
        except ValueError as error:
            faults.append(f"{operation.name} at {operation.at!r}: {error}")
    sites, unmatched = match(operations, model)
    faults += [*unmatched, *_unknown(plan, operations, model, config)]
    n = 1
    try:
        n = _block(plan, operations, config)
    except ValueError as error:
        faults.append(str(error))
    if faults:
        raise V2WError(asked, faults, "v2w inspect lists the modules through which frames mix")
    try:
        if scheduler is not None:
            plan = plan.model_copy(update={"noise": spec_of_scheduler(scheduler)})
        plan.noise.build()
    except Exception as error:  # whatever a scheduler makes of a config it was not given by its authors
        raise V2WError(
            asked, f"its noise cannot be built from scheduler_config.json ({_line(error)})"
        ) from None
    plan = plan.model_copy(update={"operations": tuple(operations), "frames_per_block": n})
    resolved = Resolved(plan, config, sites, model)
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
    n, packed = number(plan.frames_per_block, config), number(plan.call.latents.packed, config)
    if not 1 <= n <= MOST or n % packed:
        raise ValueError(
            f"frames_per_block: {n}, but the base packs {packed} frames into one, so blocks have {packed}, {2 * packed}, …"
            if packed > 1
            else f"frames_per_block: {n} frames"
        )
    if n > 1 and plan.call.latents.frames is not None:
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


def _unknown(plan: Plan, operations: list[Operation], model: nn.Module, config: dict[str, Any]) -> list[str]:
    """What the plan names and the base does not have: tensors of its own, and entries of its config."""
    tables = [op.table for op in operations if isinstance(op, FramePosition) and op.table is not None]
    rotary = [op.rotary for op in operations if isinstance(op, CausalAttention) and op.rotary is not None]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    named = [*tables, *(r.learned for r in rotary if r.learned is not None)]
    faults = [f"the base has no tensor {name!r}" for name in dict.fromkeys(named) if name not in tensors]
    latents = plan.call.latents
    sizes = {"channels": latents.channels, "frames": latents.frames or 1, "packed": latents.packed}
    for what, size in sizes.items():
        try:
            if not 1 <= number(size, config) <= MOST:
                raise ValueError(f"{number(size, config)}, not 1 to {MOST}")
        except ValueError as error:
            faults.append(f"call.latents.{what}: {error}")
    for name, condition in plan.call.given(config).items():
        try:
            shape = shape_of(plan.call, name, config, h=1, w=1)
            if min(shape, default=0) < 0 or math.prod(shape) > LARGEST:
                raise ValueError(f"a shape of {shape}")
            fill, last = filling(condition, config), shape[-1] if shape else 1
            if isinstance(fill, list) and len(fill) not in (1, last):
                raise ValueError(f"{len(fill)} numbers do not fill a row of {last}")
        except ValueError as error:
            faults.append(f"call.conditions.{name}: {error}")
    return faults


def match(operations: list[Operation], model: nn.Module) -> tuple[dict[str, Operation], list[str]]:
    """Module path -> operation, and every fault found on the way."""
    modules = dict(model.named_modules())
    chosen: dict[str, Operation] = {}
    faults: list[str] = []
    for operation in operations:
        found = [path for path in modules if path and matches(operation.at, path)]
        if not found:
            near = nearest(operation.at, modules)
            faults.append(
                f"{operation.name} at {operation.at!r} matches nothing"
                + (f", nearest are {', '.join(near)}" if near else "")
            )
        for path in found:
            if path in chosen:
                faults.append(f"both {chosen[path].name} and {operation.name} match {path}")
            elif reason := operation.refusal(modules[path]):
                faults.append(f"{operation.name} does not fit {path}, which {reason}")
            chosen[path] = operation
    return {path: chosen[path] for path in modules if path in chosen}, faults


def uncovered(plan: Plan) -> list[MixingSite]:
    """Mixing sites of the family (on the plan's tiny configuration) for which the plan has no operation."""
    model, config = _tiny(plan)
    only = plan.call.latents.frames
    packed = number(plan.call.latents.packed, config)
    packs = 5 if only is None else number(only, config)
    c, h, w = number(plan.call.latents.channels, config), 8, 16
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, packs * packed, c, h, w, generator=generator)
    conditions = {
        name: null(plan.call, name, config, h, w, tokens=3)[None] for name in plan.call.given(config)
    }
    level = torch.tensor([0.3])
    frames, apart = joined(plan.call, config, latents, conditions)
    frames = frames.unflatten(1, (packs, packed))

    def call(x: torch.Tensor) -> torch.Tensor:
        own, given = apart(x.flatten(1, 2))
        return call_base(model, plan.call, config, own, level, given).unflatten(1, (packs, packed))

    try:
        call(frames)
    except Exception as error:  # whatever a forward makes of arguments that it was not meant to get
        raise V2WError(
            f"call a {plan.base} as the plan {plan.name} says", _line(error), "`call` in the plan"
        ) from None
    accounted, _ = match([operation.definite(config) for operation in plan.operations], model)
    return [site for site in mixing_sites(model, call, frames, frame_axis=1) if site.name not in accounted]


def _tiny(plan: Plan) -> tuple[nn.Module, dict[str, Any]]:
    """The plan's tiny configuration of its base, with random weights, woken; and its config, complete."""
    asked = f"build the tiny {plan.base} of the plan {plan.name}"
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in build(plan.base, plan.tiny).parameters())
        if size > TINY:
            raise ValueError(f"{size} parameters, over the limit of {TINY}")
        torch_state = torch.random.get_rng_state()
        torch.manual_seed(0)
        model = build(plan.base, plan.tiny).eval()
        torch.random.set_rng_state(torch_state)
        config = complete(model)
        operations = [operation.definite(config) for operation in plan.operations]
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(asked, _line(error), "`tiny` in the plan") from None
    if faults := _unknown(plan, operations, model, config):
        raise V2WError(asked, faults, "`tiny` in the plan")
    wake(model)
    return model, config


def _line(error: Exception) -> str:
    """What another library says, which may be pages, on a line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 400 else f"{text[:200]} … {text[-200:]}"


def require_coverage(plan: Plan) -> None:
    """Raises V2WError if frames mix at a module that the plan does not mention."""
    missing = uncovered(plan)
    if missing:
        raise V2WError(
            f"apply the plan {plan.name}",
            [
                f"frames mix in {site.name} ({site.module}), for which the plan has no operation"
                for site in missing
            ],
            "an operation for it; frame_norm where statistics may become per frame",
        )
