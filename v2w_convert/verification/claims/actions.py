"""Which frames an action changes, and which it does not."""

import torch

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.claim import (
    BEFORE_ACTION_TRAINING,
    Claim,
    ClaimSpec,
    join_names,
)
from v2w_convert.verification.engine.blame import first_leaking_module
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import (
    Inputs,
    change_frames,
    conditions_of,
    enough_frames,
    random_inputs,
)
from v2w_convert.verification.engine.phases import WORLD, WORLD_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import advise_converting_again, advise_finetuning, fix_rules
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

RANDOMIZED = "zero-initialised layers randomised"

NO_EFFECT = ClaimSpec(
    "actions-no-effect-before-training",
    "actions",
    "Before training, no action has an effect",
    stages=BEFORE_ACTION_TRAINING,
    fix=fix_rules(advise_converting_again),
    core=True,
)
HAS_EFFECT, CAUSAL, FIRST_IGNORED, NULL, DROPPED, ROLLOUT = EFFECTS = tuple(
    ClaimSpec(id, "actions", sentence, fix=fix_rules(advise_finetuning), core=True)
    for id, sentence in (
        ("action-has-effect", "An action changes the frame that it leads to"),
        ("action-causal", "An action changes no frame before the one that it leads to"),
        ("first-action-ignored", "The first frame's action has no effect"),
        ("null-action-differs-from-zero", "The no-action embedding differs from a zero action"),
        ("dropped-action-equals-none", "Dropping an action equals passing none"),
        ("action-has-effect-in-rollout", "In a rollout, an action changes the very next frame"),
    )
)


def measure_no_effect(world: World) -> Claim:
    """Pass other actions, no actions and dropped actions to a world with its real weights: no output may change."""
    inputs = random_inputs(world, 2, enough_frames(world), seed=0)
    output = world(**inputs)
    everywhere = torch.ones_like(inputs["dropped"])
    largest, where = 0.0, ""
    for kinds in (("actions",), ("dropped",)):
        others = change_frames(inputs, 1, world, kinds, everywhere)
        if (change := max_abs_diff(world(**others), output)) > 0:
            where = first_leaking_module(world, inputs, others, everywhere)
        largest = max(largest, change)
    without = _without_actions(inputs)
    if (change := max_abs_diff(world(**without), output)) > 0:
        where = where or first_leaking_module(world, inputs, without, everywhere)
    return NO_EFFECT.result(
        max(largest, change),
        where=where,
        how="largest change of the output with other actions, dropped actions and none; real weights, float64",
    )


def measure_effects(world: World, weights: str) -> list[Claim]:
    """Change one action at a time.

    Args:
        world: The world model.
        weights: What weights it has, for the report.
    """
    t = enough_frames(world)
    inputs = random_inputs(world, 1, t, seed=0)
    output = world(**inputs)
    sites = _action_sites(world)
    without_effect: list[str] = []
    before, where, smallest, first = 0.0, "", float("inf"), 0.0
    for frame in range(t):
        others = change_frames(inputs, 1, world, ("actions",), (torch.arange(t) == frame)[None])
        change = (world(**others) - output).abs().nan_to_num(torch.inf).flatten(2).amax((0, 2))
        if frame == 0:
            first = float(change.max())
            continue
        if change[frame] == 0:
            without_effect.append(f"frame {frame}")
        smallest = min(smallest, float(change[frame]))
        block = frame // world.frames_per_block * world.frames_per_block
        if (change[:block] > 0).any():
            before = max(before, float(change[:block].max()))
            where = where or first_leaking_module(world, inputs, others, (torch.arange(t) < block)[None])
    dropped = inputs | {"dropped": torch.ones_like(inputs["dropped"])}
    with_zero = world(**inputs | {"actions": torch.zeros_like(inputs["actions"])})
    with_dropped = world(**dropped)
    difference = (with_zero - with_dropped).abs().flatten(2).amax((0, 2))
    same = [f"frame {frame}" for frame in range(1, t) if difference[frame] == 0]
    change_of_none = max_abs_diff(with_dropped, world(**_without_actions(inputs)))
    blamed = ""
    if change_of_none > 0:
        blamed = first_leaking_module(world, dropped, _without_actions(inputs), dropped["dropped"])

    return [
        HAS_EFFECT.count_frames(
            without_effect,
            sites,
            f"frames on which their action has no effect, of {t - 1}, one action changed at a time; the smallest effect "
            f"is {smallest:.1e}; {weights}",
        ),
        CAUSAL.result(
            before,
            where=where,
            how=f"largest change of an earlier output; {weights}",
            sentence="An action changes no frame before "
            + ("the one that it leads to" if world.frames_per_block == 1 else "its block"),
        ),
        FIRST_IGNORED.result(
            first,
            where=sites if first else "",
            how=f"largest change of any output when that action changes; {weights}",
        ),
        NULL.count_frames(
            same,
            sites,
            f"frames at which both give the same output, of {t - 1}; the smallest difference is "
            f"{float(difference[1:].min()):.1e}; {weights}",
        ),
        DROPPED.result(
            change_of_none,
            where=blamed,
            how=f"largest difference of the outputs with all actions dropped and with none passed; {weights}",
        ),
        _measure_rollout(world, weights),
    ]


def _measure_rollout(world: World, weights: str) -> Claim:
    """Take two different actions after one history, step by step, as a player would."""
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
    unchanged: list[str] = []
    smallest = float("inf")
    for step in range(steps):
        now = slice((2 + step) * n, (3 + step) * n)
        branch = stream.branch()
        block, other_block = (
            stream.step_block(given["actions"][:, now]),
            branch.step_block(other["actions"][:, now]),
        )
        change = float((block - other_block).abs().max())
        smallest = min(smallest, change)
        if change == 0:
            unchanged.append(f"step {step}")
    unit = "frame" if n == 1 else "block"
    return ROLLOUT.count_frames(
        unchanged,
        _action_sites(world),
        f"steps, of {steps}, at which another action gives the same {unit}, with the same history and noise; the smallest "
        f"effect is {smallest:.1e}; {weights}",
        sentence=f"In a rollout, an action changes the very next {unit}",
    )


def _without_actions(inputs: Inputs) -> Inputs:
    return {kind: x for kind, x in inputs.items() if kind not in ("actions", "dropped")}


def _action_sites(world: World) -> str:
    return join_names(name for name, op in world.resolved.sites.items() if op.embeds_actions)


def _actions_trained(context: VerifyContext) -> bool:
    return context.stage != "converted"


CHECKS = (
    Check(
        "actions before training", (NO_EFFECT,), WORLD, lambda c: [measure_no_effect(c.world)], Cost(passes=4)
    ),
    Check(
        "actions",
        EFFECTS,
        WORLD,
        lambda c: measure_effects(c.world, "real weights"),
        Cost(passes=6.5),
        applies=_actions_trained,
    ),
    Check(
        "actions",
        EFFECTS,
        WORLD_RANDOMIZED,
        lambda c: measure_effects(c.world, RANDOMIZED),
        Cost(passes=6.5),
        applies=lambda c: not _actions_trained(c),
    ),
)
