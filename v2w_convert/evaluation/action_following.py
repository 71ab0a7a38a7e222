"""Whether generated frames follow the actions."""

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.clips import EvaluationClips
from v2w_convert.evaluation.context import EvaluationContext, as_uint8
from v2w_convert.evaluation.frame_quality import psnr_gap
from v2w_convert.evaluation.inverse_dynamics import accuracy, majority, train_classifier
from v2w_convert.evaluation.result import ActionFigures, Interval, InverseDynamicsFigures

NO_TRAINING_DATA = "no other episodes to train the classifier on (--classifier-data)"
NOT_ONE_HOT = "actions are not one-hot"


def action_figures(context: EvaluationContext, generated: Tensor, other: Tensor) -> ActionFigures:
    """Measure action following.

    Args:
        context: What is evaluated.
        generated: Rollouts with the true actions (n t-history 3 height width).
        other: Rollouts with other actions.
    """
    reason = why_no_classifier(context)
    return ActionFigures(
        psnr_gap=psnr_gap(context, generated, other),
        inverse_dynamics=None if reason else inverse_dynamics(context, generated),
        inverse_dynamics_reason=reason,
    )


def other_actions(clips: EvaluationClips, history: int) -> Tensor:
    """Actions (n t a): each clip's own in the history, then those of a clip of the next episode.

    Raises:
        V2WError: There is only one episode.
    """
    episodes = clips.episode.unique()
    if len(episodes) < 2:
        raise V2WError("compare with other actions", "there is only one episode", "a data set with several")
    following = {int(e): int(episodes[(i + 1) % len(episodes)]) for i, e in enumerate(episodes)}
    chosen = [int((clips.episode == following[int(e)]).nonzero()[0]) for e in clips.episode]
    return torch.cat([clips.actions[:, :history], clips.actions[chosen, history:]], 1)


def why_no_classifier(context: EvaluationContext) -> str | None:
    """Why the action classifier cannot be used; None if it can."""
    if context.training is None:
        return NO_TRAINING_DATA
    if not all(is_one_hot(clips.actions) for clips in (context.training, context.clips)):
        return NOT_ONE_HOT
    return None


def is_one_hot(actions: Tensor) -> bool:
    """Whether all actions (n t a) but each clip's first, which led to no frame of it, are one-hot."""
    return bool(((actions == 0) | (actions == 1)).all()) and bool((actions[:, 1:].sum(-1) == 1).all())


def inverse_dynamics(context: EvaluationContext, generated: Tensor) -> InverseDynamicsFigures:
    """Train a classifier on round-tripped pairs of frames; measure it on real, round-tripped and generated ones."""
    training, clips, history = context.training, context.clips, context.history
    assert training is not None  # why_no_classifier
    frames = context.vae.decode(context.vae.encode(as_uint8(training.frames))).cpu()
    model = train_classifier(
        pairs_of(frames),
        training.actions[:, 1:].argmax(-1).flatten(),
        classes=training.actions.shape[-1],
        seed=context.settings.seed,
    )
    labels = clips.actions[:, history:].argmax(-1)

    def measured(frames: Tensor) -> Interval:
        """Accuracy on the pairs from the last frame of the history on."""
        right = accuracy(model, pairs_of(frames[:, history - 1 :]), labels.flatten()).view(labels.shape)
        return context.interval(right.mean(1))

    return InverseDynamicsFigures(
        real=measured(clips.frames),
        round_tripped=measured(context.round_tripped),
        generated=measured(torch.cat([context.round_tripped[:, :history], generated], 1)),
        majority_class=majority(labels.flatten()),
    )


def pairs_of(frames: Tensor) -> Tensor:
    """Frames (n t 3 h w) -> neighbours (n·(t-1) 2 3 h w)."""
    return torch.stack([frames[:, :-1], frames[:, 1:]], 2).flatten(0, 1)
