"""The past is seen: by the model as a whole, and by every site that should see it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from v2w_convert.operations.base import clip_context, max_abs_diff
from v2w_convert.sites import Site
from v2w_convert.verification.claims import MODEL_FORWARD, Claim, counted, counted_frames, listed, nan_max
from v2w_convert.verification.inputs import due_blocks, enough_frames, past_seeing, random_inputs
from v2w_convert.verification.module import influence
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64


def seen_past(world: World) -> Claim:
    """End to end, through the latents, as far back as a single site reaches; depth reaches further. The first site that forgets
    is to blame.
    """
    n, t = world.frames_per_block, enough_frames(world) // world.frames_per_block
    inputs = random_inputs(world, 1, t * n, seed=0)
    latents = inputs.pop("latents")
    effect = influence(lambda x: world(x, **inputs), latents, frame_dim=1).view(t, n, t, n).amax((1, 3))
    due = due_blocks(world, t)
    unit = "frame" if n == 1 else "block"
    unseen = [f"{unit} {i} in output {o}" for o, i in ((due & (effect == 0)).nonzero()).tolist()]
    return counted_frames(
        "past-seen",
        unseen,
        first_forgetful(world) or MODEL_FORWARD if unseen else "",
        f"pairs without effect, of {int(due.sum())}, when one {unit}'s latents change; the smallest effect is "
        f"{float(effect[due].min()):.1e}; zero layers woken",
        claim=f"Every {unit} sees itself and the {int(due[-1].sum()) - 1} {unit}s before it",
    )


def first_forgetful(world: World) -> str:
    """The first site that does not see its past; "" if all do."""
    seeing, _ = sites(world)
    return seeing.where.split(", ")[0]


def sites(world: World, leak: dict[str, float] | None = None) -> list[Claim]:
    """Site by site, so that one that forgets is named even when others hide it.

    Each site is called alone on its own input from a real forward, with one frame of that input changed:
    the first, the middle or the last, in one of two clips. (The last of the first clip would leak into the second,
    were they one.)

    leak  is given, for every site, the largest change where there should be none, over its output's largest value
    """
    seeing = past_seeing(world)
    t = max(
        [
            enough_frames(world) // world.frames_per_block,
            *(2 + reach.first + (reach.back or 0) for reach in seeing.values()),
        ]
    )
    leaky, most = [], 0.0
    leak = {} if leak is None else leak
    heard = record_calls(world, lambda: world(**random_inputs(world, 2, t * world.frames_per_block, seed=0)))
    forgetful = [name for name in seeing if name not in heard]  # never called, or never made a site
    for name, call in heard.items():
        due = seeing[name].visible(t) if name in seeing else torch.zeros(t, t, dtype=torch.bool)
        before = call.output(t)
        leak[name] = 0.0
        for clip, frame in ((0, 0), (1, t // 2), (0, t - 1)):
            effect = (call.output(t, clip, frame) - before).abs().flatten(2).amax(2)
            if bool((effect[clip, due[:, frame]] == 0).any()):
                forgetful.append(name)
            stray = effect.clone()
            stray[clip, frame:] = 0
            if bool((stray != 0).any()):
                leaky.append(name)
                most = max(most, float(stray.max()))
                leak[name] = max(leak[name], float(stray.max()) / (float(before.abs().max()) or 1.0))
    how = f"each site alone on its own input, one of {t} frames changed, float64; zero layers woken"
    return [
        counted(
            "sites-see-past",
            forgetful,
            f"{len(seeing)} sites: {how}",
        ),
        counted(
            "sites-blind-to-future",
            leaky,
            f"{len(heard)} sites: {how}; largest change {most:.1e}",
        ),
    ]


def sites_stored(world: World) -> Claim:
    """The same for the frame right before, all that is not lost in the rounding of a stored dtype."""
    seeing, t = past_seeing(world), enough_frames(world) // world.frames_per_block
    heard = record_calls(world, lambda: world(**random_inputs(world, 2, t * world.frames_per_block, seed=0)))
    forgetful = [name for name in seeing if name not in heard]
    for name in seeing.keys() & heard.keys():
        for clip in (0, 1):
            effect = heard[name].output(t, clip, 1) - heard[name].output(t)
            if not bool((effect[clip, 2] != 0).any()):
                forgetful.append(name)
    precision = str(world.dtype).removeprefix("torch.")
    return counted(
        "sites-see-past-stored",
        sorted(forgetful),
        f"{len(seeing)} sites: each alone on its own input, one of {t} frames changed; zero layers woken",
        claim=f"Every site sees the frame before, in {precision}",
    )


def last_frames(world: World) -> Claim:
    """An attention's last frame has the whole clip before it: masks, positions and rotations must give what they give
    where no mask is. So the causal form is tied to the one whose model is the base (the identity claim).
    """
    operations = world.resolved.sites
    attending = [name for name, op in operations.items() if op.equals_base_at_last_frame]
    windows = [w.frames for op in operations.values() if (w := op.attention_window) is not None]
    t = min([4, *(frames // world.frames_per_block for frames in windows if frames is not None)])
    heard = record_calls(world, lambda: world(**random_inputs(world, 2, t * world.frames_per_block, seed=0)))
    far = {}
    for name in attending:
        if name in heard:
            causal, base = (heard[name].output(t, bidirectional=form)[:, -1] for form in (False, True))
            far[name] = max_abs_diff(causal, base) / max(float(base.abs().max()), 1.0)
    broken = [name for name, distance in far.items() if not distance <= ALLOWED]
    return Claim(
        "sites-keep-last",
        nan_max(far.values()),
        ALLOWED,
        listed(broken),
        f"largest difference over the output's largest value, {len(far)} sites: each alone on its own input, clips of "
        f"{t} {'frames' if world.frames_per_block == 1 else 'blocks'}, float64; zero layers woken",
    )


@dataclass
class RecordedCall:
    """One call of one site: its arguments, of which `at` is the first floating tensor, ((b t) …)."""

    site: Site
    leaves: list[Any]
    tree: Any
    at: int

    def output(
        self, t: int, clip: int | None = None, frame: int = 0, *, bidirectional: bool = False
    ) -> Tensor:
        """All that the site gives (b t …), with one block of its input changed if `clip` is given."""
        leaves = list(self.leaves)
        if clip is not None:
            x = leaves[self.at].clone().unflatten(0, (2, t, -1))
            generator = torch.Generator().manual_seed(1)
            x[clip, frame] += torch.randn(x[clip, frame].shape, generator=generator).to(x)
            leaves[self.at] = x.flatten(0, 2)
        args, kwargs = tree_unflatten(leaves, self.tree)
        self.site.context = clip_context(
            2, t, self.site.context.frames_per_block, self.site.context.positions_per_block
        )
        self.site.context.bidirectional = bidirectional
        given = [x for x in tree_leaves(self.site(*args, **kwargs)) if isinstance(x, Tensor)]
        return torch.cat([x.reshape(2, t, -1) for x in given], 2)


def record_calls(world: World, run: Callable[[], Any]) -> dict[str, RecordedCall]:
    """The first call of every site during `run`; sites that are given no floating tensor are passed over."""
    heard: dict[str, RecordedCall] = {}

    def hook(site: Any, args: Any, kwargs: Any) -> None:
        leaves, tree = tree_flatten((args, kwargs))
        at = next((i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.is_floating_point()), None)
        if at is not None and site.site_name not in heard:
            copied = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
            heard[site.site_name] = RecordedCall(site, copied, tree, at)

    handles = [site.register_forward_pre_hook(hook, with_kwargs=True) for site in world.sites.values()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return heard
