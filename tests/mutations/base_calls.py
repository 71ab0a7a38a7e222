"""Models whose base is called wrongly, in both of the models that are compared."""

from collections.abc import Callable, Iterator

from torch import Tensor

from tests.mutations.faults import base_call as faults
from tests.mutations.models import MODELS
from tests.mutations.mutation import WORLD, Mutation

CLAIM = "base-call"


def _upside_down(x: Tensor) -> Tensor:
    return x.flip(-2)


def _reversed(axis: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x.flip(axis)


SHARED: tuple[tuple[str, str, faults.Patches, tuple[str, ...]], ...] = (
    ("latents upside down", "frames", faults.called(_upside_down, output=_upside_down), ("sana", "wan")),
    ("latents mirrored", "frames", faults.called(_reversed(-1), output=_reversed(-1)), ("ltx", "cogvideox")),
    ("channels reversed", "frames", faults.called(_reversed(2), output=_reversed(2)), ("hunyuan", "latte")),
    ("frames reversed", "frames", faults.called(_reversed(1), output=_reversed(1)), ("wan", "ltx")),
    ("latents of another scale", "frames", faults.called(lambda x: 0.5 * x), ("wan",)),
    ("time 1000 times too small", "timestep", faults.called(time=lambda t: t / 1000), ("sana", "cogvideox")),
    ("time of another clip", "timestep", faults.called(time=lambda t: t.flip(0)), ("wan", "kandinsky")),
    ("output upside down", "", faults.called(output=_upside_down), ("sana", "cogvideox")),
    ("output of another sign", "", faults.called(output=lambda x: -x), ("wan",)),
)  # fmt: skip


def changed_base_calls() -> Iterator[Mutation]:
    for model in ("wan", "cogvideox", "sana", "ltx"):
        argument = MODELS[model].resolved.call.argument
        broken = faults.laid_out(faults.height_and_width_exchanged)
        yield Mutation("height and width exchanged", model, "layout", CLAIM, frozenset({argument}), broken)
    for name, part, patches, models in SHARED:
        for model in models:
            argument = {"frames": MODELS[model].resolved.call.argument, "": WORLD}.get(part, part)
            yield Mutation(
                f"{name}, in both models", model, "the call", CLAIM, frozenset({argument}), program=patches
            )
