"""Whether generated frames or clips are distributed as recorded ones: Fréchet distances of networks' features."""

from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.frechet import FeatureStatistics, frechet_distance
from v2w_convert.evaluation.networks import Features
from v2w_convert.evaluation.result import FrechetFigures
from v2w_convert.evaluation.rolled_batch import OTHERS, RolledBatch

SERIES = ("generated", *OTHERS)


class Distributions:
    """Collects features, batch by batch."""

    def __init__(self, context: EvaluationContext, networks: dict[str, Features]):
        """Measure the features of these `networks`, by name."""
        self.networks, self.longest = networks, max(context.settings.horizons)
        self._truth = {name: FeatureStatistics() for name in self.networks}
        self._found = {(name, series): FeatureStatistics() for name in self.networks for series in SERIES}

    def add(self, batch: RolledBatch) -> None:
        """Take in some clips' frames up to the longest horizon."""
        for name, network in self.networks.items():
            self._truth[name].add(network(batch.truth[:, : self.longest]))
            for series in SERIES:
                self._found[name, series].add(network(batch.compared[series][:, : self.longest]))

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
