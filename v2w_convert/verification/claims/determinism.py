"""The same input gives the same output: again, after other inputs, in a stream, and with gradient checkpointing."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import Visit
from v2w_convert.verification.claim import Claim, ClaimSpec, nan_max
from v2w_convert.verification.engine.blame import first_different, record_visits
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.inputs import Inputs, conditions_of, enough_frames, random_inputs
from v2w_convert.verification.engine.phases import STORED, TRAINING, WORLD_RANDOMIZED, Cost
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

DETERMINISTIC = ClaimSpec(
    "deterministic", "determinism", "The same input gives the same output, bit for bit, in float64", core=True
)
DETERMINISTIC_STORED = ClaimSpec(
    "deterministic-stored",
    "determinism",
    "The same input gives the same output, bit for bit, in the stored precision",
)
CHECKPOINTING = ClaimSpec(
    "checkpointing-equal",
    "determinism",
    "With gradient checkpointing, output and gradient are the same",
    core=True,
)


def measure_determinism(world: World, spec: ClaimSpec = DETERMINISTIC) -> Claim:
    """Run a clip twice, and again after another of other size; run a rollout twice, the second in turns with another."""
    inputs, other = (
        random_inputs(world, 2, enough_frames(world), seed=0),
        random_inputs(world, 1, 2 * world.frames_per_block, seed=1),
    )

    def run() -> Tensor:
        output: Tensor = world(**inputs)
        return output

    def run_other() -> None:
        world(**other)

    first, second = run(), run()
    run_other()
    gaps = {"two runs": max_abs_diff(second, first), "a run after another input": max_abs_diff(run(), first)}
    alone = _rollout(world, 0)
    gaps["rollouts"] = max_abs_diff(_rollout(world, 0, other_seed=1), alone)
    measured = max(gaps.values())
    where = ""
    if measured > 0:
        where = _first_changing_module(world.base, run, run_other) or _first_changing_module(
            world.base, lambda: _rollout(world, 0), lambda: _rollout(world, 1)
        )
    return spec.result(
        measured,
        where=where,
        how="largest difference of two runs, of a run after another input of other size, and of a rollout alone and in "
        "turns with another"
        + "".join(f"; {what} differ by {gap:.1e}" for what, gap in gaps.items() if gap > 0),
        sentence="The same input gives the same output, bit for bit, in "
        f"{str(world.dtype).removeprefix('torch.')}",
    )


def measure_checkpointing(world: World) -> Claim:
    """Compare output and gradient in training mode with gradient checkpointing, and in evaluation mode without.

    Dropout stays off. Not for use under `exact`, which the second computation, in the backward, would not see: so
    `world` has a dtype that its base can run in, float32.
    """
    base: Any = world.base
    if not getattr(base, "_supports_gradient_checkpointing", False):
        return CHECKPOINTING.not_measured("the base's class has no gradient checkpointing")
    inputs = random_inputs(world, 2, enough_frames(world), seed=0)

    visits: list[tuple[str, Visit]] = []
    expected, gradient = _output_and_gradient(world, inputs)
    base.enable_gradient_checkpointing()
    world.train()
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    note, where = "", ""
    try:
        output, other_gradient = _output_and_gradient(world, inputs)
        pairs = ((output, expected), (other_gradient, gradient))
        measured = nan_max(max_abs_diff(a, b) / float(b.abs().max()) for a, b in pairs)
    except RuntimeError as error:  # torch noticed that the second computation differs
        measured, note = float("inf"), f"; {' '.join(str(error).split())[:120]}"
    try:
        if measured != 0:

            def run_again() -> None:
                with suppress(RuntimeError):
                    _output_and_gradient(world, inputs)

            visits = record_visits(world.base, run_again)
    finally:
        world.eval()
        base.disable_gradient_checkpointing()
    if visits:
        where = first_different(
            record_visits(world.base, lambda: _output_and_gradient(world, inputs)), visits
        )
    return CHECKPOINTING.result(
        measured,
        where=where,
        how="largest difference over the largest value, of the output and of its gradient by the latents, in training mode "
        f"with checkpointing and in evaluation mode without; {str(world.dtype).removeprefix('torch.')}; zero-initialised "
        f"layers randomised{note}",
    )


def _rollout(world: World, seed: int, other_seed: int | None = None) -> Tensor:
    """Two observed blocks and two generated ones, (b t c h w), in turns with a rollout of `other_seed` if that is given."""
    n = world.frames_per_block
    rollouts = []
    for each in (seed, other_seed):
        if each is None:
            continue
        given = random_inputs(world, 2, 4 * n, each)
        stream = world.stream(
            2,
            *given["latents"].shape[-2:],
            sampling=Sampling(steps=2),
            seed=each,
            window=None if world.resolved.window else 4 * n,
            **conditions_of(given, world),
        )
        rollouts.append((stream, given))
    for stream, given in rollouts:
        stream.observe(given["latents"][:, : 2 * n], given["actions"][:, : 2 * n])
    blocks: list[Tensor] = []
    for block in (2, 3):
        for stream, given in rollouts:
            blocks.append(stream.step_block(given["actions"][:, block * n : (block + 1) * n]))
    return torch.cat(blocks[:: len(rollouts)], 1)


def _output_and_gradient(world: World, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The output, and the gradient by the latents of its sum with random weights."""
    with torch.enable_grad():
        latents = inputs["latents"].clone().requires_grad_()
        output = world(**inputs | {"latents": latents})
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output)
        (gradient,) = torch.autograd.grad((output * weights).sum(), latents)
    return output.detach(), gradient


def _first_changing_module(model: nn.Module, run: Callable[[], Any], between: Callable[[], Any]) -> str:
    """The first module whose output changes for the same input: in a second run, or in one after `between`."""
    run()
    before = record_visits(model, run)
    if at_once := first_different(before, record_visits(model, run)):
        return at_once
    between()
    return first_different(before, record_visits(model, run))


CHECKS = (
    Check(
        "determinism",
        (DETERMINISTIC,),
        WORLD_RANDOMIZED,
        lambda c: [measure_determinism(c.world)],
        Cost(passes=1.3),
    ),
    Check(
        "determinism in the stored precision",
        (DETERMINISTIC_STORED,),
        STORED,
        lambda c: [measure_determinism(c.world, DETERMINISTIC_STORED)],
        Cost(passes=1.3),
    ),
    Check(
        "gradient checkpointing",
        (CHECKPOINTING,),
        TRAINING,
        lambda c: [measure_checkpointing(c.world)],
        Cost(passes=3),
    ),
)
