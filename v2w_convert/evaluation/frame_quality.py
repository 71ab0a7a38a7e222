"""PSNR and SSIM at each horizon."""

import torch
from torch import Tensor

from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.metrics import psnr, ssim
from v2w_convert.evaluation.result import Baselines, FrameQuality, HorizonFigures, Interval


def quality_by_horizon(context: EvaluationContext, frames: Tensor) -> dict[int, FrameQuality]:
    """Compare frames (n t-history 3 height width) with the truth, at each horizon of the settings."""
    horizons = context.settings.horizons
    indices = [horizon - 1 for horizon in horizons]
    compared = frames[:, indices].flatten(0, 1), context.truth[:, indices].flatten(0, 1)
    shape = len(frames), len(horizons)
    psnrs = context.intervals(psnr(*compared).view(shape))
    ssims = context.intervals(ssim(*compared).view(shape))
    return {x: FrameQuality(p, s) for x, p, s in zip(horizons, psnrs, ssims, strict=True)}


def figures_by_horizon(context: EvaluationContext, samples: list[Tensor]) -> dict[int, HorizonFigures]:
    """Compare the first of several rollouts, and the mean of all, with the truth."""
    one = quality_by_horizon(context, samples[0])
    mean = quality_by_horizon(context, torch.stack(samples).mean(0))
    return {x: HorizonFigures(one[x].psnr, one[x].ssim, mean[x].psnr, mean[x].ssim) for x in one}


def baselines(context: EvaluationContext, other: Tensor) -> Baselines:
    """Measure the baselines.

    Args:
        context: What is evaluated.
        other: Rollouts with other actions (n t-history 3 height width).
    """
    history = context.history
    copied = context.clips.frames[:, history - 1 : history].expand_as(context.truth)
    return Baselines(
        last_frame_copied=quality_by_horizon(context, copied),
        autoencoder_alone=quality_by_horizon(context, context.round_tripped[:, history:]),
        other_actions=quality_by_horizon(context, other),
    )


def psnr_gap(context: EvaluationContext, generated: Tensor, other: Tensor) -> dict[int, Interval]:
    """PSNR of `generated` minus PSNR of `other` frames (n t-history 3 height width), at each horizon."""

    def gap(i: int) -> Tensor:
        return psnr(generated[:, i], context.truth[:, i]) - psnr(other[:, i], context.truth[:, i])

    return {horizon: context.interval(gap(horizon - 1)) for horizon in context.settings.horizons}
