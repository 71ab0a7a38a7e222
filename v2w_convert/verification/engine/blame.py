"""Which module is to blame for a leak."""

import torch
from torch import Tensor

from v2w_convert.plan.probe import first_leak
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
