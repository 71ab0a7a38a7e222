"""How good a world model is: frames by horizon, whether actions are followed, whether long rollouts are stable."""

from pathlib import Path

from v2w_convert.evaluation.action_following import action_figures, other_actions
from v2w_convert.evaluation.context import open_context
from v2w_convert.evaluation.frame_quality import baselines, figures_by_horizon
from v2w_convert.evaluation.long_horizon import long_horizon
from v2w_convert.evaluation.result import EvaluateResult
from v2w_convert.evaluation.settings import EvaluateSettings
from v2w_convert.progress import Progress, ProgressEvent, no_progress


def evaluate(
    world_folder: Path,
    data: Path,
    settings: EvaluateSettings | None = None,
    *,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Measure the world model in `world_folder` on the episodes in `data`.

    Args:
        world_folder: A converted or finetuned model's folder, with its autoencoder.
        data: A data set that `open_dataset` reads, with two episodes at least.
        settings: The settings; None for the defaults.
        progress: Called before each part of the work.

    Raises:
        V2WError: Model or data cannot be read, do not fit together, or the episodes are too short or too few.
    """
    settings = settings or EvaluateSettings()
    report = progress or no_progress
    report(ProgressEvent("evaluate", detail="encoding"))
    context = open_context(world_folder, data, settings)
    clips = context.clips
    samples = []
    for number in range(settings.samples):
        report(ProgressEvent("evaluate", detail=f"rolling out, sample {number + 1} of {settings.samples}"))
        samples.append(context.rollout(clips.actions, settings.seed + number))
    report(ProgressEvent("evaluate", detail="rolling out with other actions"))
    other = context.rollout(other_actions(clips, context.history), settings.seed)
    report(ProgressEvent("evaluate", detail="measuring action following"))
    actions = action_figures(context, samples[0], other)
    long = None
    if settings.long_frames:
        report(ProgressEvent("evaluate", detail=f"rolling out {settings.long_frames} frames"))
        long = long_horizon(context)
    return EvaluateResult(
        world=world_folder.name,
        data=data.name,
        clips=len(clips.episode),
        episodes=int(clips.episode.unique().numel()),
        history=context.history,
        settings={
            **settings.model_dump(mode="json"),
            "history": context.history,
            "context_noise": context.sampling.context_noise,
        },
        horizons=figures_by_horizon(context, samples),
        baselines=baselines(context, other),
        actions=actions,
        long_horizon=long,
    )
