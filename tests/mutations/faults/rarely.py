"""The same faults in some passes only, where they are harder to find."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from tests.mutations.faults.tools import Fault, WorldFault
from v2w_convert.world.model import World

When = Callable[[Any, tuple[Any, ...]], bool]  # (module, its arguments)


def only(fault: Fault, when: When) -> Fault:
    """The same fault, in the passes in which `when` holds."""

    def rarer(site: Any) -> None:
        sound = type(site)
        fault(site)
        faulty = type(site)

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            own = type(self)
            self.__class__ = faulty if when(self, args + tuple(kwargs.values())) else sound
            try:
                return self.__class__.forward(self, *args, **kwargs)
            finally:
                self.__class__ = own

        site.__class__ = type(f"Sometimes{sound.__name__}", (sound,), {"forward": forward})

    return rarer


def above_batch_one(site: Any, args: tuple[Any, ...]) -> bool:
    return site.context.b > 1


def in_streams(site: Any, args: tuple[Any, ...]) -> bool:
    return site.context.past is not None


def in_streams_after(frames: int) -> When:
    return lambda site, args: site.context.past is not None and int(site.context.cursor) >= frames


def in_chunks_of(blocks: int) -> When:
    return lambda site, args: site.context.past is not None and site.context.t == blocks


def in_clips_over(blocks: int) -> When:
    return lambda site, args: site.context.past is None and site.context.t > blocks


def in_dtype(dtype: torch.dtype) -> When:
    return lambda site, args: any(isinstance(x, Tensor) and x.dtype == dtype for x in args)


def while_recomputing(site: Any, args: tuple[Any, ...]) -> bool:
    """While gradient checkpointing runs the forward again, in the backward."""
    return torch._C._current_graph_task_id() != -1


def with_gradients(site: Any, args: tuple[Any, ...]) -> bool:
    """While gradients are enabled."""
    return torch.is_grad_enabled()


def in_second_clip(fault: Fault) -> Fault:
    """The same fault, in all clips but the first."""

    def rarer(site: Any) -> None:
        sound = type(site)
        fault(site)
        faulty = type(site)

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            own, now = type(self), self.context
            outputs = []
            for kind in (faulty, sound):
                self.__class__ = kind
                try:
                    outputs.append(kind.forward(self, *args, **kwargs))
                finally:
                    self.__class__ = own

            def first_sound(bad: Any, good: Any) -> Any:
                if not isinstance(good, Tensor):
                    return good
                each = good.unflatten(0, (now.b, -1)).clone()
                each[1:] = bad.unflatten(0, (now.b, -1))[1:]
                return each.flatten(0, 1)

            return tree_map(first_sound, *outputs)

        site.__class__ = type(f"SecondClip{sound.__name__}", (sound,), {"forward": forward})

    return rarer


def under_checkpointing(site_name: str, fault: Fault) -> WorldFault:
    """The fault, while the base's gradient checkpointing is switched on."""

    def broken_then(world: World) -> None:
        base = world.base

        def on(site: Any, args: tuple[Any, ...]) -> bool:
            return any(getattr(module, "gradient_checkpointing", False) for module in base.modules())

        only(fault, on)(base.get_submodule(site_name))

    return broken_then
