import numpy as np
import pytest
import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.frechet import FeatureStatistics, frechet_distance


def features(n: int, d: int, seed: int) -> Tensor:
    """Correlated, with another mean and scale for each seed."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing * (1 + seed) + seed


def statistics(values: Tensor, batch: int = 64) -> FeatureStatistics:
    found = FeatureStatistics()
    for some in values.split(batch):
        found.add(some)
    return found


def test_mean_and_covariance_are_numpys() -> None:
    values = features(150, 9, 1)
    found = statistics(values)
    assert (found.count, found.dimensions) == (150, 9)
    np.testing.assert_allclose(found.mean, values.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(values.numpy(), rowvar=False), rtol=1e-10)


@pytest.mark.parametrize(
    ("n", "d"), [(300, 16), (500, 64), (20, 48)]
)  # the last: fewer samples than dimensions
def test_the_distance_is_that_of_pytorch_fids_formula(n: int, d: int) -> None:
    """With scipy's matrix square root, as pytorch-fid 0.3.0 and torch-fidelity compute it."""
    linalg = pytest.importorskip("scipy.linalg")
    a, b = features(n, d, 0), features(n + 7, d, 1)
    mean_a, mean_b = a.mean(0).numpy(), b.mean(0).numpy()
    cov_a, cov_b = (np.cov(x.numpy(), rowvar=False) for x in (a, b))
    root = linalg.sqrtm(cov_a @ cov_b).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(expected, rel=1e-6)


def test_known_distances() -> None:
    values = features(200, 12, 0)
    same = statistics(values)
    assert frechet_distance(same, statistics(values)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(same, statistics(values + 3)) == pytest.approx(12 * 9)
    doubled = statistics((values - same.mean) * 2 + same.mean)  # (2 - 1)² of the variance
    assert frechet_distance(same, doubled) == pytest.approx(float(same.covariance.trace()))


def test_one_sample_has_no_covariance() -> None:
    with pytest.raises(V2WError, match="1 samples"):
        frechet_distance(statistics(features(1, 3, 0)), statistics(features(5, 3, 0)))
