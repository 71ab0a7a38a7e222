"""How to change a live module or world."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from v2w_convert.operations.interception import SITE_ATTENTION
from v2w_convert.sites import ForwardContext, Site, SiteState
from v2w_convert.world.model import World

Fault = Callable[[Any], None]  # of a module
WorldFault = Callable[[World], None]  # of a world
SLIGHT = 1e-3


@contextmanager
def broken(fault: WorldFault) -> Iterator[None]:
    """Every world created inside is broken, the folded base too: as by a bug in the code."""
    made = World.__init__

    def init(self: World, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        fault(self)

    World.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        World.__init__ = made  # type: ignore[method-assign]


def at(name: str, fault: Fault) -> WorldFault:
    """The fault at one module, be it a site or not."""

    def broken_then(world: World) -> None:
        module = world.base.get_submodule(name)
        if not isinstance(module, Site):  # it has no context of its own
            any_site = next(iter(world.sites.values()))
            override_methods(module, context=property(lambda self: any_site.context))
        fault(module)

    return broken_then


def override_methods(module: nn.Module, **methods: Any) -> None:
    module.__class__ = type(f"Broken{type(module).__name__}", (type(module),), methods)


def change_context(site: Site, change: Callable[[ForwardContext], dict[str, Any]]) -> None:
    forward = type(site).forward

    def changed(self: Site, *args: Any, **kwargs: Any) -> Any:
        now = self.context
        self.context = replace(now, **change(now))
        try:
            return forward(self, *args, **kwargs)
        finally:
            self.context = now

    override_methods(site, forward=changed)


def change_actions(site: Site, change: Callable[[Tensor], Tensor]) -> None:
    change_context(site, lambda now: {"actions": None if now.actions is None else change(now.actions)})


def change_output(module: Any, change: Callable[[Any, Tensor, ForwardContext], Tensor]) -> None:
    """Change the module's first output, ((b t) …)."""
    forward = type(module).forward

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        leaves, tree = tree_flatten(forward(self, *args, **kwargs))
        at = next(i for i, x in enumerate(leaves) if isinstance(x, Tensor))
        leaves[at] = change(self, leaves[at], self.context)
        return tree_unflatten(leaves, tree)

    override_methods(module, forward=changed)


def change_commit(site: Site, change: Callable[[Any, SiteState, SiteState], SiteState]) -> None:
    """Change what is committed, from the old state and the right new one."""
    forward = type(site).forward

    def changed(self: Site, *args: Any, **kwargs: Any) -> Any:
        output, now = forward(self, *args, **kwargs), self.context
        if now.commit and now.past is not None:
            old, new = now.past[self.site_name], now.new_states[self.site_name]
            now.new_states[self.site_name] = change(self, old, new)
        return output

    override_methods(site, forward=changed)


def replace_rotation(
    site: Any, rotary: Any, when: Callable[[ForwardContext], bool] = lambda now: True
) -> None:
    """Other rotation wherever the site makes one (its invariants are measured without any)."""
    turned = type(site)._rotate

    def changed(self: Any, x: Tensor, *blocks: Tensor) -> Tensor:
        own = self.rotary
        if own is not None and when(self.context):
            self.rotary = rotary
        try:
            return turned(self, x, *blocks)
        finally:
            self.rotary = own

    override_methods(site, _rotate=changed)


class Layout:
    """Positions of frames and text in an attention's mask (b|1 1 queries keys)."""

    def __init__(self, site: Any, query: Tensor, l_frame: int | None):
        self.t, self.first = site.context.t, site.text == "first"
        self.l_query = query.shape[2]
        self.l_text = 0 if l_frame is None else self.l_query - l_frame

    @property
    def text_rows(self) -> slice:
        """Of one frame's queries."""
        l_frame = self.l_query - self.l_text
        return slice(0, self.l_text) if self.first else slice(l_frame, self.l_query)

    def own(self, mask: Tensor) -> Tensor:
        """A view of the part that is about this pass's frames: (b|1 t l t l), who sees (frame, token) whom."""
        l_frame = self.l_query - self.l_text
        part = mask[:, 0, :, -self.t * l_frame :]
        return part.unflatten(1, (self.t, -1)).unflatten(3, (self.t, -1))


def change_mask(site: Any, change: Callable[[Tensor, Layout], None]) -> None:
    attend = type(site)._attend

    def changed(self: Any, l_frame: int | None, query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with _Masks(partial(change, seen=Layout(self, query, l_frame))):
            return attend(self, l_frame, query, *args, **kwargs)

    override_methods(site, _attend=changed)


class _Masks(TorchFunctionMode):
    """Changes the mask of every scaled_dot_product_attention within it that has one."""

    def __init__(self, change: Callable[[Tensor], None]):
        super().__init__()
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is SITE_ATTENTION and kwargs.get("attn_mask") is not None:
            mask = kwargs["attn_mask"].clone()
            self.change(mask)
            kwargs["attn_mask"] = mask
        return func(*args, **kwargs)
