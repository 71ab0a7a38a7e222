"""Fréchet distances between two sets of features: FID, FVD, and those of any other network.

    |m - m'|² + tr(C + C' - 2 (C C')^½)

of their means m and covariances C (Heusel et al. 2017, arXiv 1706.08500, equation 6). It falls with the number of samples,
so that only distances of equally many compare.
"""

from functools import cached_property

import torch
from torch import Tensor

from v2w_convert.errors import V2WError


class FeatureStatistics:
    """Mean and covariance of features that come batch by batch, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = self._products = torch.zeros((), dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features (n d)."""
        features = features.double().cpu()
        self.count += len(features)
        self._sum = self._sum + features.sum(0)
        self._products = self._products + features.T @ features

    @property
    def dimensions(self) -> int:
        """Numbers of a feature, d."""
        return self._sum.numel()

    @property
    def mean(self) -> Tensor:
        """(d,)."""
        return self._sum / self.count

    @cached_property
    def covariance(self) -> Tensor:
        """(d d), of a sample: divided by n - 1.

        Raises:
            V2WError: There are fewer than two features.
        """
        if self.count < 2:
            raise V2WError("measure a Fréchet distance", f"{self.count} samples", "two at least")
        return (self._products - self.count * self.mean.outer(self.mean)) / (self.count - 1)

    @cached_property
    def root(self) -> Tensor:
        """The covariance's symmetric square root (d d)."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
        return root


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The Fréchet distance of two gaussians with these means and covariances.

    The trace of (C C')^½ is that of (C^½ C' C^½)^½, which is symmetric: no complex numbers, no fallback where the
    covariances are singular.

    Raises:
        V2WError: One of them has fewer than two samples.
    """
    shared = torch.linalg.eigvalsh(a.root @ b.covariance @ a.root).clamp(min=0).sqrt().sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * shared
    return float((a.mean - b.mean).square().sum() + spread)
