"""Long-horizon stability: whether late frames of long rollouts still look like the data, and follow actions."""

from dataclasses import asdict
from math import isfinite

import torch
from torch import Tensor

from v2w_convert.evaluation.action_following import ActionReader
from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.inverse_dynamics import downscaled, score
from v2w_convert.evaluation.metrics import bootstrap, picture_statistics, share_within, within
from v2w_convert.evaluation.result import DriftFigures, LongHorizonFigures, ShareWithin
from v2w_convert.evaluation.rolled_batch import RolledBatch
from v2w_convert.progress import Progress, ProgressEvent, no_progress

PERCENTILES = (1, 99)
LOW, HIGH = (percentile / 100 for percentile in PERCENTILES)
STRETCHES = 10  # that a long rollout is cut into, to show drift
ENERGY = 2  # which of the picture statistics is the gradient energy


class LongHorizon:
    """Rolls out the first clips for many frames and compares statistics of the frames with the data's.

    The statistics say whether frames look like the data, not whether they are the true ones: nobody recorded
    what follows these frames with these actions.
    """

    def __init__(self, context: EvaluationContext, reader: ActionReader):
        """Measure on `context`; actions are read by `reader`."""
        self.context, self.reader = context, reader
        self._real: list[Tensor] = []
        self._round_tripped: list[Tensor] = []

    def measure(self, batch: RolledBatch) -> tuple[Tensor, Tensor]:
        """The statistics of some clips' recorded frames, and of those as they come back from the autoencoder."""
        recorded, round_tripped = batch.recorded.flatten(0, 1), batch.round_tripped.flatten(0, 1)
        return picture_statistics(recorded), picture_statistics(round_tripped)

    def add(self, measured: tuple[Tensor, Tensor]) -> None:
        """Take in the statistics of some clips."""
        self._real.append(measured[0])
        self._round_tripped.append(measured[1])

    def figures(self, progress: Progress = no_progress) -> LongHorizonFigures:
        """Roll out, and measure. `progress` is called with the frames that this process has made."""
        context, settings = self.context, self.context.settings
        count = min(settings.long_rollouts, len(context.clips))
        actions = joined_actions(
            context.clips.actions, torch.arange(count), context.history + settings.long_frames
        )
        statistics, small = self._roll_out(actions, progress)
        real, round_tripped = torch.cat(self._real), torch.cat(self._round_tripped)

        def share(reference: Tensor) -> ShareWithin:
            """The share of generated frames within the range of these frames."""
            shares = within(statistics.flatten(0, 1), reference, LOW, HIGH).view(count, -1).mean(1)
            interval = bootstrap(shares, settings.seed)
            return ShareWithin(**asdict(interval), reference=share_within(reference, reference, LOW, HIGH))

        return LongHorizonFigures(
            frames=settings.long_frames,
            rollouts=count,
            percentiles=PERCENTILES,
            within_real=share(real),
            within_round_tripped=share(round_tripped),
            drift=[
                self._drift(first, last, statistics, small, actions, round_tripped)
                for first, last in stretches(settings.long_frames)
            ],
        )

    def _roll_out(self, actions: Tensor, progress: Progress) -> tuple[Tensor, Tensor | None]:
        """Statistics of the generated frames (k t 3), and small forms of them (k t+1 3 side side) to read actions from."""
        context = self.context
        made = 0
        total = len(actions) * context.settings.long_frames if context.processes.count == 1 else None

        def some(rows: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal made
            last_observed = context.round_trip(rows)[:, context.history - 1 : context.history]
            statistics, small = [], [downscaled(last_observed)]
            for frames in context.rollout_stream(rows, actions[rows], "long"):
                statistics.append(picture_statistics(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))
                if self.reader.model is not None:
                    small.append(downscaled(frames))
                made += frames.shape[0] * frames.shape[1]
                progress(ProgressEvent("roll out", made, total))
            return torch.cat(statistics, 1), torch.cat(small, 1)

        rolled = context.processes.each_of(context.batches(len(actions)), some)
        found, small = (torch.cat(parts) for parts in zip(*rolled, strict=True))
        return found, small if self.reader.model is not None else None

    def _drift(
        self,
        first: int,
        last: int,
        statistics: Tensor,
        small: Tensor | None,
        actions: Tensor,
        reference: Tensor,
    ) -> DriftFigures:
        """The figures of the generated frames from `first` to `last`, counted from 1."""
        seed = self.context.settings.seed
        own = statistics[:, first - 1 : last]
        shares = within(own.flatten(0, 1), reference, LOW, HIGH).view(own.shape[:2]).mean(1)
        detail = own[..., ENERGY].mean(1) / reference[:, ENERGY].mean()
        scores = {}
        if small is not None:
            history = self.context.history
            sums = self.reader.sums(
                small[:, first - 1 : last + 1], actions[:, history + first - 1 : history + last]
            )
            found = {
                part.name: float(score(part, sums[:, i].mean(0))) for i, part in enumerate(self.reader.parts)
            }
            scores = {name: value for name, value in found.items() if isfinite(value)}
        return DriftFigures(first, last, bootstrap(shares, seed), bootstrap(detail, seed), scores)


def stretches(frames: int) -> list[tuple[int, int]]:
    """First and last frame of equal parts of a rollout, counted from 1."""
    count = min(STRETCHES, frames)
    ends = [frames * i // count for i in range(count + 1)]
    return [(start + 1, end) for start, end in zip(ends, ends[1:], strict=False)]


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
