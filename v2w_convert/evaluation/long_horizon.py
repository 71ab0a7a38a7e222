"""Long-horizon stability: whether late frames of long rollouts still look like the data."""

from dataclasses import asdict

import torch
from torch import Tensor

from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.metrics import bootstrap, picture_statistics, share_within
from v2w_convert.evaluation.result import LongHorizonFigures, ShareWithin

PERCENTILES = (1, 99)
SEED_OFFSET = 1000  # so that long rollouts have noise of their own


def long_horizon(context: EvaluationContext) -> LongHorizonFigures:
    """Roll out the first clips for many frames and compare statistics of the frames with the data's.

    The statistics say whether frames look like the data, not whether they are the true ones: nobody recorded
    what follows these frames with these actions.
    """
    settings = context.settings
    count = min(settings.long_rollouts, len(context.latents))
    actions = joined_actions(
        context.clips.actions, torch.arange(count), context.history + settings.long_frames
    )
    found = [
        [picture_statistics(rollout) for rollout in frames]
        for frames in context.rollout_stream(actions, settings.seed + SEED_OFFSET)
    ]
    statistics = [torch.cat(of_rollout) for of_rollout in zip(*found, strict=True)]

    def share(reference_frames: Tensor) -> ShareWithin:
        """The share of generated frames within the range of these frames."""
        reference = picture_statistics(reference_frames.flatten(0, 1))
        low, high = (percentile / 100 for percentile in PERCENTILES)
        shares = [share_within(of_rollout, reference, low, high) for of_rollout in statistics]
        interval = bootstrap(torch.tensor(shares, dtype=torch.float64), settings.seed)
        return ShareWithin(**asdict(interval), reference=share_within(reference, reference, low, high))

    return LongHorizonFigures(
        frames=settings.long_frames,
        rollouts=count,
        percentiles=PERCENTILES,
        within_real=share(context.clips.frames),
        within_round_tripped=share(context.round_tripped),
    )


def joined_actions(actions: Tensor, chosen: Tensor, frames: int) -> Tensor:
    """Actions (k frames a) of long rollouts: those of the chosen clips, then those of the clips after them.

    A clip's first action led to its first frame; what follows another clip's last frame is that clip's second.

    Args:
        actions: Actions (n t a) of all clips.
        chosen: The clips (k,) that the rollouts start from.
        frames: How many actions.
    """
    per_clip = actions.shape[1] - 1
    row = actions[:, 1:].flatten(0, 1)
    later = torch.arange(frames - 1)
    rest = [row[(int(clip) * per_clip + later) % len(row)] for clip in chosen]
    return torch.cat([actions[chosen, :1], torch.stack(rest)], 1)
