"""How much the next frames change with each part of the action, all noise being the same."""

from collections.abc import Callable

import torch
from torch import Tensor

from v2w_convert.evaluation.action_parts import MeasuredPart
from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.metrics import bootstrap
from v2w_convert.evaluation.result import SensitivityFigures

MAX_CLIPS = 32  # that are rolled out once more for each part
GREY_LEVELS = 255


def sensitivity(context: EvaluationContext, say: Callable[[str], None]) -> SensitivityFigures:
    """Change one part of the actions after the history, generate one block of frames, and compare.

    Evenly spaced clips are used, 32 at most.

    Args:
        context: What is evaluated.
        say: Told what is done before it is.
    """
    clips, n = context.clips, len(context.clips)
    chosen = torch.linspace(0, n - 1, min(n, MAX_CLIPS)).round().long()
    end = context.vae.packing.whole_blocks(context.history + 1, context.world.frames_per_block)
    end = min(end, clips.actions.shape[1])
    actions, recorded = clips.actions[:, :end], context.recorded_actions
    mean, deviation = recorded.mean(0), recorded.std(0, correction=0)

    def changed(part: MeasuredPart) -> Tensor:
        found = actions.clone()
        found[:, context.history :] = part.changed(actions[:, context.history :], mean, deviation)
        return found

    variants: list[tuple[str, Tensor, int | str]] = [
        ("other noise", actions, "other noise"),
        ("another episode's actions", context.other[:, :end], 0),
        *((f"another {part.name}", changed(part), 0) for part in context.parts),
    ]

    def changes(some: Tensor) -> Tensor:
        """Root mean square change of the pixels for each of `variants`, of some of the chosen clips (variants m)."""
        rows = chosen[some]
        true = context.rollout(rows, actions[rows], 0)
        found = []
        for what, given, sample in variants:
            say(f"generating with {what}")
            change = context.rollout(rows, given[rows], sample) - true
            found.append(change.double().square().mean((1, 2, 3, 4)).sqrt())
        return torch.stack(found)

    batches = context.batches(len(chosen))
    found = torch.cat(list(context.processes.each_of(batches, changes)), 1) * GREY_LEVELS
    episodes = clips.episode[chosen]
    by_episode = [found[:, episodes == e].mean(1) for e in episodes.unique()]
    effects = [bootstrap(values, context.settings.seed) for values in torch.stack(by_episode, 1)]
    return SensitivityFigures(
        clips=len(chosen),
        other_noise=effects[0],
        other_episode=effects[1],
        parts=dict(zip([part.name for part in context.parts], effects[2:], strict=True)),
    )
