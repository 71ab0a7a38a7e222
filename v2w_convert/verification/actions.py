"""Where an action is seen, and where it is not."""

import torch

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.causality import first_module
from v2w_convert.verification.claims import Claim, counted_frames, listed
from v2w_convert.verification.inputs import Inputs, change_frames, conditions_of, enough_frames, random_inputs
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling


def unheeded(world: World) -> Claim:
    """A world as surgery made it (real weights): other actions, no actions, dropped ones, to the bit."""
    inputs = random_inputs(world, 2, enough_frames(world), seed=0)
    output = world(**inputs)
    everywhere = torch.ones_like(inputs["dropped"])
    largest, where = 0.0, ""
    for kinds in (("actions",), ("dropped",)):
        others = change_frames(inputs, 1, world, kinds, everywhere)
        if (change := max_abs_diff(world(**others), output)) > 0:
            where = first_module(world, inputs, others, everywhere)
        largest = max(largest, change)
    without = _without(inputs)
    if (change := max_abs_diff(world(**without), output)) > 0:
        where = where or first_module(world, inputs, without, everywhere)
    largest = max(largest, change)
    return Claim(
        "actions-unheeded",
        largest,
        0.0,
        where,
        "other actions, dropped ones and none; real weights, float64",
    )


def effects(world: World, weights: str) -> list[Claim]:
    """One action changed at a time. `weights` says in words which weights `world` has."""
    t = enough_frames(world)
    inputs = random_inputs(world, 1, t, seed=0)
    output = world(**inputs)
    sites = listed(name for name, op in world.resolved.sites.items() if op.embeds_actions)
    deaf, before, where, smallest = [], 0.0, "", float("inf")
    for frame in range(t):
        others = change_frames(inputs, 1, world, ("actions",), (torch.arange(t) == frame)[None])
        change = (world(**others) - output).abs().nan_to_num(torch.inf).flatten(2).amax((0, 2))
        if frame == 0:
            first = float(change.max())
            continue
        if change[frame] == 0:
            deaf.append(f"frame {frame}")
        smallest = min(smallest, float(change[frame]))
        block = frame // world.frames_per_block * world.frames_per_block
        if (change[:block] > 0).any():
            before = max(before, float(change[:block].max()))
            where = where or first_module(world, inputs, others, (torch.arange(t) < block)[None])
    zero = world(**inputs | {"actions": torch.zeros_like(inputs["actions"])})
    none = world(**inputs | {"dropped": torch.ones_like(inputs["dropped"])})
    apart = (zero - none).abs().flatten(2).amax((0, 2))
    alike = [f"frame {frame}" for frame in range(1, t) if apart[frame] == 0]
    dropped = inputs | {"dropped": torch.ones_like(inputs["dropped"])}
    change = max_abs_diff(none, world(**_without(inputs)))
    blamed = first_module(world, dropped, _without(inputs), dropped["dropped"]) if change > 0 else ""

    return [
        counted_frames(
            "action-heeded",
            deaf,
            sites,
            f"frames without effect, of {t - 1}, one action changed at a time; the smallest effect is "
            f"{smallest:.1e}; {weights}",
        ),
        Claim(
            "action-not-before",
            before,
            0.0,
            where,
            f"largest change; {weights}",
            claim="An action changes no frame before "
            + ("it" if world.frames_per_block == 1 else "its block"),
        ),
        Claim(
            "first-action-unread",
            first,
            0.0,
            sites if first else "",
            f"largest change of any output when that action changes; {weights}",
        ),
        counted_frames(
            "null-is-not-zero",
            alike,
            sites,
            f"frames at which both give one output, of {t - 1}; the smallest difference is "
            f"{float(apart[1:].min()):.1e}; {weights}",
        ),
        Claim(
            "dropped-is-none",
            change,
            0.0,
            blamed,
            f"largest difference of outputs with all actions dropped and with none given; {weights}",
        ),
        moves_next(world, weights),
    ]


def _without(inputs: Inputs) -> Inputs:
    return {kind: x for kind, x in inputs.items() if kind not in ("actions", "dropped")}


def moves_next(world: World, weights: str) -> Claim:
    """As a player sees it: two actions after one past, again and again."""
    n, steps = world.frames_per_block, 3
    given, other = (random_inputs(world, 1, (2 + steps) * n, seed) for seed in (0, 1))
    stream = world.stream(
        1,
        *given["latents"].shape[-2:],
        sampling=Sampling(steps=2),
        window=None if world.resolved.window else (2 + steps) * n,
        **conditions_of(given, world),
    )
    stream.observe(given["latents"][:, : 2 * n], given["actions"][:, : 2 * n])
    unmoved, smallest = [], float("inf")
    for step in range(steps):
        now = slice((2 + step) * n, (3 + step) * n)
        twin = stream.branch()
        made, otherwise = (
            stream.step_block(given["actions"][:, now]),
            twin.step_block(other["actions"][:, now]),
        )
        change = float((made - otherwise).abs().max())
        smallest = min(smallest, change)
        if change == 0:
            unmoved.append(f"step {step}")
    unit = "frame" if n == 1 else "block"
    return counted_frames(
        "action-moves-next",
        unmoved,
        listed(name for name, op in world.resolved.sites.items() if op.embeds_actions),
        f"steps, of {steps}, at which another action gives the same {unit}, from one past and the same noise; "
        f"the smallest effect is {smallest:.1e}; {weights}",
        claim=f"In a rollout, an action moves the very next {unit}",
    )
