"""The same input gives the same output: again, after others, in a stream, and under gradient checkpointing."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import Visit, watched
from v2w_convert.verification.claim import Claim, nan_max, not_measured
from v2w_convert.verification.engine.inputs import Inputs, conditions_of, enough_frames, random_inputs
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling


def repeatable(world: World, name: str = "deterministic") -> Claim:
    """A clip twice, and once more after another of other size; a rollout twice, a step of each in turn."""
    inputs, other = (
        random_inputs(world, 2, enough_frames(world), seed=0),
        random_inputs(world, 1, 2 * world.frames_per_block, seed=1),
    )

    def once() -> Tensor:
        return world(**inputs)

    def another() -> None:
        world(**other)

    first, again = once(), once()
    another()
    gaps = {"twice": max_abs_diff(again, first), "after another": max_abs_diff(once(), first)}
    alone = _rollout(world, 0)
    together = _rollout(world, 0, beside=1)
    gaps["rollouts"] = max_abs_diff(together, alone)
    measured = max(gaps.values())
    where = ""
    if measured > 0:
        where = _parted(world.base, once, another) or _parted(
            world.base, lambda: _rollout(world, 0), lambda: _rollout(world, 1)
        )
    return Claim(
        name,
        measured,
        0.0,
        where,
        "two runs, one more after another input of other size, and a rollout by itself and in turns with another"
        + "".join(f"; {what} differ by {far:.1e}" for what, far in gaps.items() if far > 0),
        claim=f"The same input gives the same output, bit for bit, in {str(world.dtype).removeprefix('torch.')}",
    )


def checkpointed(world: World) -> Claim:
    """In training mode, as finetuning saves memory; nothing is dropped out. Not to be called under `exact`, which the
    second computation, in the backward, would not see: so `world` has a dtype that its base can run in, float32.
    """
    base: Any = world.base
    if not getattr(base, "_supports_gradient_checkpointing", False):
        return not_measured("checkpointing-same", "the base's class cannot do it")
    inputs = random_inputs(world, 2, enough_frames(world), seed=0)

    visits: list[tuple[str, Visit]] = []
    expected, gradient = _output_and_gradient(world, inputs)
    base.enable_gradient_checkpointing()
    world.train()
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    said, where = "", ""
    try:
        output, other = _output_and_gradient(world, inputs)
        pairs = ((output, expected), (other, gradient))
        measured = nan_max(max_abs_diff(a, b) / float(b.abs().max()) for a, b in pairs)
    except RuntimeError as error:  # torch noticed that the second computation was another
        measured, said = float("inf"), f"; {' '.join(str(error).split())[:120]}"
    try:
        if measured != 0:

            def again() -> None:
                with suppress(RuntimeError):
                    _output_and_gradient(world, inputs)

            visits = _visits(world.base, again)
    finally:
        world.eval()
        base.disable_gradient_checkpointing()
    if visits:
        where = _first_other(_visits(world.base, lambda: _output_and_gradient(world, inputs)), visits)
    return Claim(
        "checkpointing-same",
        measured,
        0.0,
        where,
        "largest difference over the largest value, of the output and of its gradient by the latents, in training mode "
        f"with checkpointing and in evaluation without; {str(world.dtype).removeprefix('torch.')}; zero layers woken{said}",
    )


def _rollout(world: World, seed: int, beside: int | None = None) -> Tensor:
    """Two blocks seen and two made, (b t c h w); `beside`: another rollout of that seed takes a step after each of its."""
    n = world.frames_per_block
    runs = []
    for each in (seed, beside):
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
        runs.append((stream, given))
    for stream, given in runs:
        stream.observe(given["latents"][:, : 2 * n], given["actions"][:, : 2 * n])
    made: list[Tensor] = []
    for block in (2, 3):
        for stream, given in runs:
            made.append(stream.step_block(given["actions"][:, block * n : (block + 1) * n]))
    return torch.cat(made[:: len(runs)], 1)


def _output_and_gradient(world: World, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The output, and the gradient by the latents of its sum under random weights."""
    with torch.enable_grad():
        latents = inputs["latents"].clone().requires_grad_()
        output = world(**inputs | {"latents": latents})
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output)
        (gradient,) = torch.autograd.grad((output * weights).sum(), latents)
    return output.detach(), gradient


def _parted(model: nn.Module, run: Callable[[], Any], between: Callable[[], Any]) -> str:
    """The first module that gives something else for the same input: at once, or after `between`."""
    run()
    before = _visits(model, run)
    if at_once := _first_other(before, _visits(model, run)):
        return at_once
    between()
    return _first_other(before, _visits(model, run))


def _visits(model: nn.Module, run: Callable[[], Any]) -> list[tuple[str, Visit]]:
    """Every call of every module in the order of completion, copied."""
    found: list[tuple[str, Visit]] = []

    def keep(name: str, now: Visit) -> None:
        found.append((name, Visit([x.clone() for x in now.inputs], [x.clone() for x in now.outputs])))

    with watched(model, keep):
        run()
    return found


def _first_other(before: list[tuple[str, Visit]], after: list[tuple[str, Visit]]) -> str:
    """The first module that gave something else for what it was given before. It may be called again in `after`."""
    known: dict[str, list[Visit]] = {}
    for name, visit in before:
        known.setdefault(name, []).append(visit)
    calls: Counter[str] = Counter()
    for name, now in after:
        then = known[name][calls[name] % len(known[name])]
        calls[name] += 1
        if _same(then.inputs, now.inputs) and not _same(then.outputs, now.outputs):
            return name
    return ""


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
