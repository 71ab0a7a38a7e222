"""How much the next frames change with each part of the action, all noise being the same."""

from collections.abc import Callable

import torch
from torch import Tensor

from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.metrics import bootstrap
from v2w_convert.evaluation.result import Interval, SensitivityFigures

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

    def frames(actions: Tensor, sample: int | str = 0) -> Tensor:
        """The block after the history (m k 3 height width) of each chosen clip."""
        some = chosen.split(context.settings.batch)
        return torch.cat([context.rollout(rows, actions[rows], sample) for rows in some])

    say("generating with other noise")
    true = frames(actions)

    def effect(frames: Tensor) -> Interval:
        """Root mean square change of the pixels, in grey levels."""
        change = (frames - true).double().square().mean((1, 2, 3, 4)).sqrt() * GREY_LEVELS
        episodes = clips.episode[chosen]
        return bootstrap(
            torch.stack([change[episodes == e].mean() for e in episodes.unique()]), context.settings.seed
        )

    other_noise = effect(frames(actions, "other noise"))
    other_episode = effect(frames(context.other[:, :end]))
    parts = {}
    for part in context.parts:
        say(f"generating with another {part.name}")
        changed = actions.clone()
        changed[:, context.history :] = part.changed(actions[:, context.history :], mean, deviation)
        parts[part.name] = effect(frames(changed))
    return SensitivityFigures(
        clips=len(chosen), other_noise=other_noise, other_episode=other_episode, parts=parts
    )
