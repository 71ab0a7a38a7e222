"""A stream, block by block or in chunks, gives what one pass over the whole clip gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from v2w_convert.operations.base import gap
from v2w_convert.plan.resolve import Resolved
from v2w_convert.verify.claims import Claim
from v2w_convert.verify.inputs import Inputs, draw, enough_frames, first_tensor, latent_size, slice_of
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64
AFFORDABLE = 16  # blocks in view, or fewer: then rings are overwritten three times, else twice


def blocks_of(resolved: Resolved) -> int:
    """How many blocks the clip has: so many windows, and a few more."""
    view = _view(resolved)
    return (3 if view <= AFFORDABLE else 2) * view + 4


def _view(resolved: Resolved) -> int:
    """Blocks in view at once; three where all are."""
    return 3 if resolved.window is None else resolved.window // resolved.n


def streaming(world: World) -> list[Claim]:
    """Past the window several times, so that every ring buffer has been overwritten. `world` is float64."""
    n, view = world.n, _view(world.resolved)
    blocks = max(blocks_of(world.resolved), enough_frames(world) // n)
    inputs = draw(world, 2, blocks * n, seed=0)
    with per_frame_sums(world) as whole:
        expected = world(**inputs)
    sizes = {
        "streamed-by-block": ("frame by frame" if n == 1 else "block by block", [1] * blocks),
        "streamed-in-chunks": ("in chunks of mixed sizes", mixed_sizes(blocks, view)),
    }
    return [
        _claim(world, inputs, expected, whole, [n * size for size in chunks], name, manner, view)
        for name, (manner, chunks) in sizes.items()
    ]


def mixed_sizes(t: int, window: int) -> list[int]:
    """Sizes that add up to t: a few blocks, more than a window at once, and few again."""
    sizes = [2, window + 1, 1]
    while sum(sizes) < t:
        sizes.append(min(3, t - sum(sizes)))
    return sizes


def _claim(
    world: World,
    inputs: Inputs,
    expected: Tensor,
    whole: dict[str, list[Tensor]],
    sizes: list[int],
    name: str,
    manner: str,
    view: int,
) -> Claim:
    """Each chunk three times: other frames, which are not committed and must leave no trace; its own, not committed;
    its own, committed. The latter two are compared.
    """
    t = expected.shape[1]
    state = world.empty_state(2, *latent_size(world), window=None if world.resolved.window else t)
    others = draw(world, 2, t, seed=1)
    outputs: dict[bool, list[Tensor]] = {False: [], True: []}
    streamed: dict[bool, dict[str, list[Tensor]]] = {False: {}, True: {}}
    start = 0
    for size in sizes:
        stop = start + size
        world.continued(state, **slice_of(others, start, stop), commit=False)
        own = slice_of(inputs, start, stop)
        for commit in (False, True):
            with per_frame_sums(world) as chunk:
                output, state = world.continued(state, **own, commit=commit)
            outputs[commit].append(output)
            for site, sums in chunk.items():
                streamed[commit].setdefault(site, []).extend(sums)
        start = stop
    far = {
        commit: gap(torch.cat(made, 1), expected) / float(expected.abs().max())
        for commit, made in outputs.items()
    }
    broken = [commit for commit in (True, False) if not far[commit] <= ALLOWED]
    passes = {True: "committed", False: "uncommitted"}
    return Claim(
        name,
        f"Streamed {manner}, the output is that of one pass over the whole clip",
        max(far.values()),
        ALLOWED,
        first_difference(whole, streamed[broken[0]]) if broken else "",
        f"largest difference over the output's largest value, {t} frames of 2 clips, window {world.resolved.window}, "
        f"{t / world.n / view:.1f} times as much as is in view; two uncommitted passes, of other frames and of "
        "its own, before each is committed; float64; zero layers woken"
        + "".join(f"; broken in {passes[commit]} passes" for commit in broken),
    )


@contextmanager
def per_frame_sums(world: World) -> Iterator[dict[str, list[Tensor]]]:
    """Of every site's output, two sums per frame, [(b t 2)]: enough to tell where two runs part."""
    sums: dict[str, list[Tensor]] = {}

    def hook(site: Any, _args: object, output: object) -> None:
        now = site.current
        x = first_tensor(output).unflatten(0, (now.b, now.t, -1)).flatten(2).to(torch.float64)  # by block
        sums.setdefault(str(site.site_name), []).append(torch.stack([x.abs().sum(2), (x**2).sum(2)], 2))

    handles = [site.register_forward_hook(hook) for site in world.sites.values()]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def first_difference(whole: dict[str, list[Tensor]], streamed: dict[str, list[Tensor]]) -> str:
    """The site at which the runs part: at the earliest frame that differs, the first site in the order of the run."""
    earliest, found = None, ""
    for name, sums in whole.items():
        a, b = torch.cat(sums, 1), torch.cat(streamed[name], 1)
        apart = (~torch.isclose(a, b, rtol=1e-8, atol=1e-12)).flatten(2).any(2).any(0).nonzero()
        if len(apart) and (earliest is None or int(apart[0]) < earliest):
            earliest, found = int(apart[0]), name
    return found
