"""Whether actions can be read from generated frames as they can from recorded ones."""

import torch
from torch import Tensor

from v2w_convert.evaluation.clips import per_episode
from v2w_convert.evaluation.context import EvaluationContext, batches
from v2w_convert.evaluation.inverse_dynamics import (
    MEASURES,
    InverseDynamics,
    downscaled,
    pairs_of,
    score,
    score_ignoring,
    score_sums,
    train_inverse_dynamics,
)
from v2w_convert.evaluation.metrics import bootstrap_of
from v2w_convert.evaluation.result import InverseDynamicsFigures
from v2w_convert.evaluation.rolled_batch import RolledBatch

NO_TRAINING_DATA = "no other episodes to train the network on that reads actions (--classifier-data)"
NEVER_CHANGES = "never changes in these episodes, or in those for training"


class ActionReader:
    """Reads actions from pairs of frames.

    Attributes:
        context: What is evaluated.
        reason: Why not every part is read; None if all are.
        parts: The parts of an action that are read: those that change, in these episodes and in those of the training.
        model: The trained network, if there is one.
    """

    def __init__(self, context: EvaluationContext):
        """Train it, on round-tripped frames: what the model is shown and generates went through the autoencoder."""
        self.context, self.model = context, None
        training = context.training
        measured = context.clips.actions[:, context.history :].flatten(0, 1)
        trained = None if training is None else training.actions[:, 1:].flatten(0, 1)
        self.parts = [
            part
            for part in context.parts
            if part.varies(measured) and trained is not None and part.varies(trained)
        ]
        unread = [part.name for part in context.parts if part not in self.parts]
        self.reason = None
        if unread:
            self.reason = NO_TRAINING_DATA if training is None else f"{', '.join(unread)}: {NEVER_CHANGES}"
        if training is not None and trained is not None and self.parts:
            vae, processes = context.vae, context.processes

            def shown(rows: Tensor) -> Tensor:
                return downscaled(vae.decode(vae.encode(training.frames[rows])).cpu())

            rows = batches(len(training), context.settings.batch, processes)
            pairs = pairs_of(torch.cat(list(processes.each_of(rows, shown))))
            self.model = processes.of_first(
                lambda: train_inverse_dynamics(pairs, trained, self.parts, context.settings.seed)
            )

    def sums(self, frames: Tensor, actions: Tensor) -> Tensor:
        """What scores are made of: the mean over the pairs of each clip.

        Args:
            frames: (m t+1 3 height width).
            actions: That led from each frame to the next (m t a).

        Returns:
            (m parts 4).
        """
        assert isinstance(self.model, InverseDynamics)
        pairs = pairs_of(downscaled(frames))
        found = score_sums(self.model, pairs, actions.flatten(0, 1), self.parts, self._centre)
        means: Tensor = found.unflatten(0, actions.shape[:2]).mean(1)
        return means

    @property
    def _centre(self) -> Tensor:
        """The mean of all actions that are measured (a,)."""
        return self.context.clips.actions[:, self.context.history :].flatten(0, 1).mean(0)


class ActionFollowing:
    """Collects how well actions can be read, batch by batch."""

    def __init__(self, reader: ActionReader):
        """Measure with this `reader`."""
        self.reader = reader
        self._sums: dict[str, list[Tensor]] = {"real": [], "round_tripped": [], "generated": []}

    def measure(self, batch: RolledBatch) -> dict[str, Tensor]:
        """Read the actions of some clips, from the last frame of the history on: sums (m parts 4) by what is shown."""
        if self.reader.model is None:
            return {}
        actions = self.reader.context.clips.actions[batch.rows, batch.history :]
        observed = batch.round_tripped[:, : batch.history]
        shown = {
            "real": batch.recorded,
            "round_tripped": batch.round_tripped,
            "generated": torch.cat([observed, batch.samples[0]], 1),
        }
        return {
            name: self.reader.sums(frames[:, batch.history - 1 :], actions) for name, frames in shown.items()
        }

    def add(self, measured: dict[str, Tensor]) -> None:
        """Take in what was read of some clips."""
        for name, sums in measured.items():
            self._sums[name].append(sums)

    def figures(self) -> list[InverseDynamicsFigures]:
        """Scores of each part of the actions; none where nothing is read."""
        if self.reader.model is None:
            return []
        context = self.reader.context
        actions = context.clips.actions[:, context.history :].flatten(0, 1)
        sums = {name: per_episode(torch.cat(found), context.clips) for name, found in self._sums.items()}
        return [
            InverseDynamicsFigures(
                name=part.name,
                measure=MEASURES[part.kind],
                **{
                    name: bootstrap_of(
                        found[:, i],
                        lambda chosen, part=part: score(part, chosen.mean(1)),  # type: ignore[misc]
                        context.settings.seed,
                    )
                    for name, found in sums.items()
                },
                ignoring_actions=score_ignoring(part, actions),
            )
            for i, part in enumerate(self.reader.parts)
        ]
