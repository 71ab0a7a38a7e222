"""How good a world model is: frames by horizon, whether actions are followed, whether long rollouts are stable."""

from pathlib import Path
from typing import Any

from torch import Tensor

from v2w_convert.evaluation.action_following import ActionFollowing, ActionReader
from v2w_convert.evaluation.context import EvaluationContext, open_context
from v2w_convert.evaluation.distributions import Distributions
from v2w_convert.evaluation.frame_quality import Quality
from v2w_convert.evaluation.long_horizon import LongHorizon
from v2w_convert.evaluation.networks import missing, open_distances, open_features
from v2w_convert.evaluation.report.folder import Report
from v2w_convert.evaluation.result import ActionFigures, EvaluateResult
from v2w_convert.evaluation.rolled_batch import roll_out
from v2w_convert.evaluation.sensitivity import sensitivity
from v2w_convert.evaluation.settings import EvaluateSettings
from v2w_convert.processes import ALONE, Processes
from v2w_convert.progress import Progress, ProgressEvent, no_progress


def evaluate(
    world_folder: Path,
    data: Path,
    settings: EvaluateSettings | None = None,
    *,
    report: Report | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Measure the world model in `world_folder` on the episodes in `data`.

    Args:
        world_folder: A converted or finetuned model's folder, with its autoencoder.
        data: A data set that `open_dataset` reads, with two episodes at least.
        settings: The settings; None for the defaults.
        report: Where videos and frames are put as they come, and then the page and the figures.
        processes: Those that share the rollouts. All call this, and get the same.
        progress: Called before each part of the work.

    Raises:
        V2WError: Model, data or a network cannot be read, do not fit together, or the episodes are too short or too few.
    """
    settings = settings or EvaluateSettings()
    report_progress = progress or no_progress

    def say(what: str) -> None:
        report_progress(ProgressEvent("evaluate", detail=what))

    device = processes.device(settings.device)
    distances, features = open_distances(settings, device), open_features(settings, device)
    say("encoding")
    context = open_context(world_folder, data, settings, processes)
    if report is not None:
        report.begin(context)
    if context.training is not None:
        say("learning to read actions")
    reader = ActionReader(context)
    quality, distributions = Quality(context, distances), Distributions(context, features)
    following, long = ActionFollowing(reader), LongHorizon(context, reader)
    n = len(context.clips)
    collected: tuple[Any, ...] = (quality, distributions, following, long)

    def measure(rows: Tensor) -> list[Any]:
        which = f"clips {int(rows[0]) + 1} to {int(rows[-1]) + 1} of {n}: "
        batch = roll_out(context, rows, lambda what: say(which + what))
        if report is not None:
            report.add(batch)
        return [each.measure(batch) for each in collected]

    for measured in processes.each_of(context.batches(), measure):
        for each, found in zip(collected, measured, strict=True):
            each.add(found)
    changes = sensitivity(context, say)
    if settings.long_frames:
        say(f"rolling out {settings.long_frames} frames")
    result = EvaluateResult(
        world=world_folder.name,
        data=data.name,
        clips=n,
        episodes=int(context.clips.episode.unique().numel()),
        history=context.history,
        settings=_settings(context),
        horizons=quality.horizons(),
        baselines=quality.baselines(),
        psnr_curves=quality.curves(),
        frechet=distributions.figures(),
        not_measured=missing(settings),
        actions=ActionFigures(
            psnr_gap=quality.psnr_gap(),
            sensitivity=changes,
            inverse_dynamics=following.figures(),
            inverse_dynamics_reason=reader.reason,
        ),
        long_horizon=long.figures(report_progress) if settings.long_frames else None,
    )
    if report is not None and processes.first:
        report.end(result)
    return result


def _settings(context: EvaluationContext) -> dict[str, object]:
    return context.settings.model_dump(mode="json")
