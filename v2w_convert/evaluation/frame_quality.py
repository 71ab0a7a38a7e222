"""How near frames are to the true ones at each horizon: PSNR, SSIM, and LPIPS and DreamSim where their files are given."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from v2w_convert.evaluation.clips import per_episode
from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.metrics import psnr, ssim
from v2w_convert.evaluation.result import Baselines, FrameQuality, HorizonFigures, Interval
from v2w_convert.evaluation.rolled_batch import OTHERS, RolledBatch

Metric = Callable[[Tensor, Tensor], Tensor]
Measured = tuple[dict[tuple[str, str], Tensor], dict[str, Tensor]]


class Quality:
    """Collects distances to the truth, batch by batch."""

    def __init__(self, context: EvaluationContext, distances: Mapping[str, Metric]):
        """Measure PSNR, SSIM and these `distances`."""
        self.context = context
        self.metrics: dict[str, Metric] = {"psnr": psnr, "ssim": ssim, **distances}
        self._values: dict[tuple[str, str], list[Tensor]] = {}
        self._curves: dict[str, list[Tensor]] = {}

    def measure(self, batch: RolledBatch) -> Measured:
        """Distances of some clips (m horizons) by series and metric, and PSNR of every frame (m t-history) by series."""
        indices = [horizon - 1 for horizon in self.context.settings.horizons]
        truth = batch.truth[:, indices].flatten(0, 1)
        found: Measured = {}, {}
        for series, frames in batch.compared.items():
            chosen = frames[:, indices].flatten(0, 1)
            for name, metric in self.metrics.items():
                found[0][series, name] = metric(chosen, truth).view(len(frames), len(indices)).cpu()
            every = psnr(frames.flatten(0, 1), batch.truth.flatten(0, 1)).view(frames.shape[:2])
            found[1][series] = every
        return found

    def add(self, measured: Measured) -> None:
        """Take in what was measured of some clips."""
        values, curves = measured
        for key, value in values.items():
            self._values.setdefault(key, []).append(value)
        for series, curve in curves.items():
            self._curves.setdefault(series, []).append(curve)

    def horizons(self) -> dict[int, HorizonFigures]:
        """The figures of a rollout, and of the mean of all."""
        one, mean = self._figures("generated"), self._figures("mean")
        return {
            x: HorizonFigures(**vars(one[x]), psnr_of_mean=mean[x].psnr, ssim_of_mean=mean[x].ssim)
            for x in one
        }

    def baselines(self) -> Baselines:
        """The figures of frames that are not the model's prediction for the true actions."""
        return Baselines(**{name: self._figures(name) for name in OTHERS})

    def psnr_gap(self) -> dict[int, Interval]:
        """PSNR with the true actions minus PSNR with other actions, at each horizon."""
        gaps = self._of("generated", "psnr") - self._of("other_actions", "psnr")
        return dict(zip(self.context.settings.horizons, self.context.intervals(gaps), strict=True))

    def curves(self) -> dict[str, list[float]]:
        """PSNR of each frame after the history, mean over episodes."""
        longest = max(self.context.settings.horizons)
        return {
            series: per_episode(torch.cat(values), self.context.clips).mean(0)[:longest].tolist()
            for series, values in self._curves.items()
            if series != "mean"
        }

    def _of(self, series: str, metric: str) -> Tensor:
        """(n horizons)."""
        return torch.cat(self._values[series, metric])

    def _figures(self, series: str) -> dict[int, FrameQuality]:
        horizons = self.context.settings.horizons
        found: dict[str, Any] = {"lpips": [None] * len(horizons), "dreamsim": [None] * len(horizons)}
        found |= {name: self.context.intervals(self._of(series, name)) for name in self.metrics}
        return {
            horizon: FrameQuality(**{name: values[i] for name, values in found.items()})
            for i, horizon in enumerate(horizons)
        }
