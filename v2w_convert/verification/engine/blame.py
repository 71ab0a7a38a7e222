"""Which module is to blame: for a leak, or for another output for the same input."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.plan.probe import Visit, first_leak, watched
from v2w_convert.verification.claim import MODEL_FORWARD
from v2w_convert.verification.engine.inputs import Inputs
from v2w_convert.world.model import World


def first_leaking_module(
    world: World, before: Inputs, after: Inputs, kept: Tensor, gradients: bool = False
) -> str:
    """Return the first module whose output changes at `kept` frames although its inputs there do not.

    Args:
        world: The world model.
        before: Arguments of `World.forward`.
        after: The same, with values changed at the other frames.
        kept: (b t) bool, the frames at which both are equal.
        gradients: True to run with gradients enabled.

    Returns:
        Its path; `MODEL_FORWARD` if it happens between modules; "" if nothing leaks.
    """
    x, y = (z["latents"].unflatten(1, (-1, world.frames_per_block)) for z in (before, after))

    def call(latents: Tensor) -> Tensor:
        with torch.set_grad_enabled(gradients):
            output: Tensor = world(**(before if latents is x else after)).detach()
        folded: Tensor = output.flatten(0, 1).unflatten(0, latents.shape[:3])
        return folded

    name = first_leak(world.base, call, x, y, kept[:, :: world.frames_per_block])
    return MODEL_FORWARD if name == "" else name or ""


def record_visits(model: nn.Module, run: Callable[[], Any]) -> list[tuple[str, Visit]]:
    """Return every call of every module during `run`, in the order of completion, copied."""
    found: list[tuple[str, Visit]] = []

    def keep(name: str, now: Visit) -> None:
        found.append((name, Visit([x.clone() for x in now.inputs], [x.clone() for x in now.outputs])))

    with watched(model, keep):
        run()
    return found


def first_different(before: list[tuple[str, Visit]], after: list[tuple[str, Visit]]) -> str:
    """Return the first module whose outputs differ for the same inputs; "" if there is none.

    It may be called again in `after`.
    """
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
