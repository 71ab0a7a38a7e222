"""Whether generated frames or clips are distributed as recorded ones: Fréchet distances of networks' features."""

from torch import Tensor

from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.frechet import FeatureStatistics, frechet_distance
from v2w_convert.evaluation.networks import Features
from v2w_convert.evaluation.result import FrechetFigures
from v2w_convert.evaluation.rolled_batch import OTHERS, RolledBatch

SERIES = ("generated", *OTHERS)
Measured = dict[str, tuple[Tensor, dict[str, Tensor]]]


class Distributions:
    """Collects features, batch by batch."""

    def __init__(self, context: EvaluationContext, networks: dict[str, Features]):
        """Measure the features of these `networks`, by name."""
        self.networks, self.longest = networks, max(context.settings.horizons)
        self._truth = {name: FeatureStatistics() for name in self.networks}
        self._found = {(name, series): FeatureStatistics() for name in self.networks for series in SERIES}

    def measure(self, batch: RolledBatch) -> Measured:
        """Features of some clips' frames up to the longest horizon: of the true ones and of each series, by network."""

        def features(network: Features, frames: Tensor) -> Tensor:
            return network(frames[:, : self.longest]).cpu()

        return {
            name: (
                features(network, batch.truth),
                {series: features(network, batch.compared[series]) for series in SERIES},
            )
            for name, network in self.networks.items()
        }

    def add(self, measured: Measured) -> None:
        """Take in the features of some clips."""
        for name, (truth, found) in measured.items():
            self._truth[name].add(truth)
            for series, features in found.items():
                self._found[name, series].add(features)

    def figures(self) -> dict[str, FrechetFigures]:
        """The distances, by name.

        Raises:
            V2WError: There are fewer than two samples.
        """
        return {
            name: FrechetFigures(
                samples=truth.count,
                dimensions=truth.dimensions,
                **{series: frechet_distance(truth, self._found[name, series]) for series in SERIES},
            )
            for name, truth in self._truth.items()
        }
