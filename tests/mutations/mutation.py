"""What a broken model is: what is broken, where, which claim must catch it, and which module it must name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.mutations.faults import WorldFault
from tests.mutations.folders import Edit

WORLD = "the model's own forward"  # what is between modules
CONV, NORM, ATTENTION = ("causal_conv",), ("frame_norm",), ("causal_attention",)
LINEAR, POSITION, ACTION = ("linear_attention",), ("frame_position",), ("action",)
MIXING = CONV + NORM + ATTENTION + LINEAR
CARRYING = CONV + ATTENTION + LINEAR
ATTENDING = ATTENTION + LINEAR
CHECKPOINTED = "checkpointing-equal"
SLOW = ("svd", "i2vgen", "animatediff", "unet-3d, zero-initialised")  # deep: many modules to call

Program = dict[Any, dict[str, Callable[..., Any]]]


@dataclass(frozen=True)
class Mutation:
    """One broken model.

    kind    what is wrong, in words
    model   one of `MODELS`; of `SHIPPED` where nothing is wrong
    site    where it was broken
    claim   the id of the one that must fail; "": none may
    blamed  the modules, tensors or files that this claim must name, exactly; none, if it is about the model as a
            whole. Of one of two denoisers: behind "high: " or "low: "
    fault   breaks a live world, or
    edit    breaks the converted folder, or
    program replaces methods of the program's own classes, or functions of its modules: class -> name -> method
    brief   whether the brief mode of large models can see it; else the claim, or its `how`, says what was left out
    """

    kind: str
    model: str
    site: str
    claim: str
    blamed: frozenset[str]
    fault: WorldFault | None = None
    edit: Edit | None = None
    program: Program | None = None
    brief: bool = True

    def __str__(self) -> str:
        return " | ".join(filter(None, (self.kind, self.model, self.site)))


def chosen(sites: Iterable[str], max_sites: int, number: int) -> list[str]:
    """The first, the middle and the last site; for a kind with one site only, one of these in turn."""
    sites = list(sites)
    some = list(dict.fromkeys([*sites[:1], *sites[len(sites) // 2 :][:1], *sites[-1:]]))
    return some[:max_sites] if max_sites > 1 else some[number % max(len(some), 1) :][:1]
