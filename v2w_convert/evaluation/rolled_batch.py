"""What is generated for some clips: all figures are measured on one batch after another, so that memory holds one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from v2w_convert.evaluation.context import EvaluationContext

OTHERS = ("last_frame_copied", "autoencoder_alone", "other_actions")


@dataclass(frozen=True)
class RolledBatch:
    """Frames of m clips, (m t-history 3 height width) where nothing else is said, float in [0, 1].

    Attributes:
        rows: Which clips (m,).
        history: Observed frames per clip.
        recorded: Of the whole clips (m t 3 height width).
        round_tripped: The same, encoded and decoded.
        samples: Rollouts with the true actions.
        other: A rollout with another episode's actions and the noise of the first sample.
    """

    rows: Tensor
    history: int
    recorded: Tensor
    round_tripped: Tensor
    samples: list[Tensor]
    other: Tensor

    @property
    def truth(self) -> Tensor:
        """The recorded frames after the history."""
        return self.recorded[:, self.history :]

    @cached_property
    def compared(self) -> dict[str, Tensor]:
        """What is compared with the truth: a rollout, the mean of all, and the baselines."""
        return {
            "generated": self.samples[0],
            "mean": torch.stack(self.samples).mean(0),
            "last_frame_copied": self.recorded[:, self.history - 1 : self.history].expand_as(self.truth),
            "autoencoder_alone": self.round_tripped[:, self.history :],
            "other_actions": self.other,
        }


def roll_out(context: EvaluationContext, rows: Tensor, say: Callable[[str], None]) -> RolledBatch:
    """Generate what is measured of some clips.

    Args:
        context: What is evaluated.
        rows: Which clips (m,).
        say: Told what is done before it is.
    """
    actions, count = context.clips.actions[rows], context.settings.samples
    samples = []
    for sample in range(count):
        say(f"rolling out, sample {sample + 1} of {count}")
        samples.append(context.rollout(rows, actions, sample))
    say("rolling out with other actions")
    return RolledBatch(
        rows=rows,
        history=context.history,
        recorded=context.clips.pictures(rows),
        round_tripped=context.round_trip(rows),
        samples=samples,
        other=context.rollout(rows, context.other[rows], 0),
    )
