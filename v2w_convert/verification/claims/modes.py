"""Causality, past and streaming in every dtype and mode in which v2w runs a model.

Rollouts and evaluations run it in float32, bfloat16 or float16. Finetuning runs it in float32, in training mode, with or
without gradient checkpointing and autocast, and validates it without gradients. `torch.compile` is the caller's own.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec, join_names, nan_max
from v2w_convert.verification.claims.receptive_field import sites_blind_to_frame_before
from v2w_convert.verification.claims.streaming import CallSums, first_difference, record_sums
from v2w_convert.verification.engine.blame import first_different, first_leaking_module, record_visits
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import (
    Inputs,
    change_frames,
    enough_frames,
    latent_size,
    random_inputs,
    slice_of,
)
from v2w_convert.verification.engine.phases import MODES, Cost, can_run, open_randomized
from v2w_convert.verification.report.fixes import advise_against, fix_rules
from v2w_convert.world.model import World

ALLOWED_FLOAT32 = (
    2**10
)  # float32 units in the last place of the output's largest value, 1e-4: of thousands of roundings
ALLOWED_HALF = (
    3  # times what one pass is away from float32's: two roundings of that size, and half as much again
)
HALF = (torch.bfloat16, torch.float16)

CAUSAL = ClaimSpec(
    "causal-modes",
    "causality",
    "No frame sees a later one, in any dtype and mode of rollouts and training",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)
PAST = ClaimSpec(
    "sites-receptive-field-modes",
    "receptive-field",
    "Every site sees the frame before, in any dtype of rollouts and training",
    fix=fix_rules(advise_against("forgets_past")),
)
STREAM = ClaimSpec(
    "stream-modes",
    "streaming",
    "Streaming gives the same output as one pass over the whole clip, in any dtype of rollouts",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)
TRAINING_EQUAL = ClaimSpec(
    "training-equal",
    "determinism",
    "Training mode, gradients and gradient checkpointing change no output",
    core=True,
)


class Mode(NamedTuple):
    """How a model in float32 is run."""

    training: bool = False
    gradients: bool = False
    checkpointing: bool = False
    autocast: torch.dtype | None = None

    def __str__(self) -> str:
        """In words."""
        words = ["training" if self.training else "evaluation"]
        words += [] if self.gradients else ["no gradients"]
        words += ["checkpointing"] if self.checkpointing else []
        words += [f"autocast to {_name(self.autocast)}"] if self.autocast else []
        return ", ".join(["float32", *words])


@dataclass
class Found:
    """What was measured so far: the largest values, the modules to blame, and where it was broken.

    Attributes:
        measured: What was run, in words, and what came of it.
        broken: Those of `measured` that break the claim.
        where: Modules.
        most: The largest value.
    """

    measured: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    most: float = 0.0

    def add(self, what: str, value: float, *, holds: bool) -> bool:
        """Note a measurement; return whether the module to blame is to be looked for."""
        self.measured.append(what)
        self.most = nan_max([self.most, value])
        if not holds:
            self.broken.append(what)
        return not holds and not self.where

    def how(self, before: str) -> str:
        """In words."""
        broken = f"; broken in {'; '.join(self.broken)}" if self.broken else ""
        return f"{before}; in {'; '.join(self.measured)}; zero-initialised layers randomised{broken}"


def measure_modes(context: VerifyContext) -> list[Claim]:
    """Measure float32 in every mode, and then the other dtypes of rollouts that this machine can run.

    Of a large model, float32 and autocast to bfloat16 only, and each site in neither: the stored dtype has its own claims.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of a slower kernel where dtypes are mixed
        return _measure(context)


def _measure(context: VerifyContext) -> list[Claim]:
    causal, past, stream, equal = Found(), Found(), Found(), Found()
    world, brief = context.world, context.large
    left_out = []
    for autocast in (None, torch.bfloat16) if brief else (None, *HALF):
        measured = _measure_float32(world, autocast, causal, equal)
        if autocast is not None and not measured:
            left_out.append(f"autocast to {_name(autocast)}")
    if not brief:
        _measure_past(world, Mode(), "float32", past)
        _measure_past(world, Mode(True, True, autocast=torch.bfloat16), "", past)
    exact = _measure_stream(world, None, stream, brief)
    for dtype in () if brief else HALF:
        open_randomized(context, dtype)
        if not can_run(context.world):
            left_out.append(_name(dtype))
            continue
        _measure_half(context.world, causal)
        if dtype != context.stored_dtype:
            _measure_past(context.world, Mode(), _name(dtype), past)
        _measure_stream(context.world, exact, stream, brief)
    note = (
        f"; not in {' and '.join(left_out)}, in which it does not run here or overflows" if left_out else ""
    )
    return [
        CAUSAL.result(
            causal.most,
            where=join_names(causal.where),
            how=causal.how("largest change of outputs up to a cut when everything after it changes") + note,
        ),
        PAST.not_measured("brief for a large model")
        if brief
        else PAST.count(
            past.where, past.how("each site alone on its own input, the frame before changed") + note
        ),
        STREAM.result(
            stream.most,
            allowed=1.0,
            where=join_names(stream.where),
            how=stream.how(
                "largest difference of committed and uncommitted passes over the output's largest value, as a share of "
                f"what rounding explains: {ALLOWED_FLOAT32} units in the last place of float32; in a shorter dtype "
                f"{ALLOWED_HALF} times what one pass over the clip differs from float32's"
            )
            + note,
        ),
        TRAINING_EQUAL.result(
            equal.most,
            where=join_names(equal.where),
            how=equal.how("largest difference from evaluation mode without gradients, dropout off"),
        ),
    ]


def _measure_float32(world: World, autocast: torch.dtype | None, causal: Found, equal: Found) -> bool:
    """Every mode with this autocast: the same output in all, and causality. False: its output overflows."""
    modes = [Mode(), Mode(True, True), Mode(True, False), Mode(False, True)]
    if getattr(world.base, "_supports_gradient_checkpointing", False):
        modes.append(Mode(True, True, True))
    if autocast is not None:
        modes = [mode for mode in modes if mode.training == mode.gradients]
    if autocast == torch.float16:
        modes = modes[:2]
    before, after, kept = _changed(world)
    expected = None
    for mode in (mode._replace(autocast=autocast) for mode in modes):
        output = _run(world, before, mode)
        if expected is None:
            expected = output
        if autocast is not None and not expected.isfinite().all():
            return False
        different = max_abs_diff(output, expected)
        if equal.add(str(mode), different, holds=different == 0):
            equal.where.append(_first_different(world, before, mode))
        if different == 0 and (mode.checkpointing or mode.training != mode.gradients):
            continue  # the same output, bit for bit, as in a mode that is compared
        _compare(world, mode, str(mode), (before, after, kept), output, causal)
    dropout = any(isinstance(module, nn.Dropout) and module.p > 0 for module in world.base.modules())
    if dropout and autocast is None:
        mode = Mode(True, True)
        with entered(world, mode, dropout=True):
            output, changed = (_seeded(world, inputs) for inputs in (before, after))
        change = max_abs_diff(changed[kept], output[kept])
        if causal.add(f"{mode}, dropout", change, holds=change == 0):
            causal.where.append(MODEL_FORWARD)
    return True


def _measure_half(world: World, causal: Found) -> None:
    before, after, kept = _changed(world)
    _compare(world, Mode(), _name(world.dtype), (before, after, kept), world(**before), causal)


def _compare(
    world: World,
    mode: Mode,
    name: str,
    clips: tuple[Inputs, Inputs, Tensor],
    output: Tensor,
    causal: Found,
) -> None:
    """Change everything after the cuts; `output` is that of the clips before."""
    before, after, kept = clips
    change = max_abs_diff(_run(world, after, mode)[kept], output[kept])
    if causal.add(name, change, holds=change == 0):
        with entered(world, mode):
            causal.where.append(first_leaking_module(world, before, after, kept, gradients=mode.gradients))


def _measure_past(world: World, mode: Mode, name: str, past: Found) -> None:
    with entered(world, mode):
        blind = sites_blind_to_frame_before(world)
    past.add(name or str(mode), len(blind), holds=not blind)
    past.where += blind


def _measure_stream(world: World, exact: Tensor | None, stream: Found, brief: bool) -> Tensor:
    """Stream block by block, past the window, as rollouts do; `exact` is what float32 returns. Returns one pass's output."""
    n = world.frames_per_block
    window = 3 if world.resolved.window is None else world.resolved.window // n
    t = (window + (1 if brief else 3)) * n
    inputs = random_inputs(world, 1 if brief else 2, t, seed=0)
    whole: Tensor = world(**inputs)
    largest = float(whole.abs().max())
    rounding = ALLOWED_FLOAT32 * torch.finfo(torch.float32).eps
    if exact is not None:
        rounding = ALLOWED_HALF * max_abs_diff(whole.float(), exact) / largest
    share = nan_max(max_abs_diff(x, whole) / largest / rounding for x in _streamed(world, inputs))
    what = f"{_name(world.dtype)}, {t} frames, {rounding:.1e} allowed"
    if stream.add(what, share, holds=share <= 1):
        stream.where.append(_first_difference(world, inputs, rounding))
    return whole


def _first_difference(world: World, inputs: Inputs, rounding: float) -> str:
    """The first module at which committed passes differ from one pass over the clip."""
    whole, streamed = CallSums(), CallSums()
    with record_sums(world, whole):
        world(**inputs)
    _streamed(world, inputs, streamed)
    return first_difference(whole, streamed, rounding) or MODEL_FORWARD


def _streamed(world: World, inputs: Inputs, committed: CallSums | None = None) -> tuple[Tensor, Tensor]:
    """The outputs of uncommitted passes, and of committed ones, (b t c h w); `committed` receives their modules' sums."""
    b, t = inputs["latents"].shape[:2]
    n = world.frames_per_block
    state = world.empty_state(b, *latent_size(world), window=None if world.resolved.window else t)
    outputs: tuple[list[Tensor], list[Tensor]] = ([], [])
    for start in range(0, t, n):
        block = slice_of(inputs, start, start + n, world)
        for commit in (False, True):
            with nullcontext() if committed is None or not commit else record_sums(world, committed):
                output, state = world.forward_streamed(state, **block, commit=commit)
            outputs[commit].append(output)
    return torch.cat(outputs[0], 1), torch.cat(outputs[1], 1)


def _changed(world: World) -> tuple[Inputs, Inputs, Tensor]:
    """Two clips; the same with everything changed after the first block, and in the last block; which frames are kept."""
    n, t = world.frames_per_block, enough_frames(world)
    kept = torch.arange(t) < torch.tensor([[n], [t - n]])
    before = random_inputs(world, 2, t, seed=0)
    return before, change_frames(before, 1, world, tuple(before), ~kept), kept


@contextmanager
def entered(world: World, mode: Mode, *, dropout: bool = False) -> Iterator[None]:
    """Run `world` in a mode, without its layers of dropout unless that is asked for."""
    base: Any = world.base
    world.train(mode.training)
    for module in base.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.eval()
    if mode.checkpointing:
        base.enable_gradient_checkpointing()
    try:
        with (
            # Without its cache, which would hold a second copy of all weights.
            torch.autocast("cpu", mode.autocast, enabled=mode.autocast is not None, cache_enabled=False),
            torch.set_grad_enabled(mode.gradients),
        ):
            yield
    finally:
        if mode.checkpointing:
            base.disable_gradient_checkpointing()
        world.eval()


def _run(world: World, inputs: Inputs, mode: Mode) -> Tensor:
    with entered(world, mode):
        return _seeded(world, inputs)


def _seeded(world: World, inputs: Inputs) -> Tensor:
    """One pass, with the same dropout each time, and with latents that have a gradient where gradients are enabled."""
    latents = inputs["latents"].clone().requires_grad_(torch.is_grad_enabled())
    with (
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(lambda saved: None, _no_backward),
    ):
        torch.manual_seed(0)
        output: Tensor = world(**inputs | {"latents": latents})
    return output.detach()


def _no_backward(saved: None) -> Tensor:
    """Nothing is kept for a backward pass: of a model of full size that would be its weights and activations once more."""
    raise AssertionError("these passes have no backward")


def _first_different(world: World, inputs: Inputs, mode: Mode) -> str:
    def visits(of: Mode) -> Any:
        return record_visits(world.base, lambda: _run(world, inputs, of))

    return first_different(visits(Mode(autocast=mode.autocast)), visits(mode)) or MODEL_FORWARD


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


CHECKS = (
    Check(
        "dtypes and modes",
        (CAUSAL, PAST, STREAM, TRAINING_EQUAL),
        MODES,
        measure_modes,
        cost=lambda c: Cost(passes=16 if c.large else 40, reads=0 if c.large else 2),
        not_if_large="bfloat16, float16, autocast to float16",
    ),
)
