import pytest
import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.metrics import (
    bootstrap,
    bootstrap_of,
    picture_statistics,
    psnr,
    share_within,
    ssim,
)
from v2w_convert.evaluation.result import Interval


def frames(n: int, seed: int, height: int = 24, width: int = 37) -> Tensor:
    """Smooth pictures with some grain: (n 3 height width) float64 in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 5, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def test_psnr_of_a_known_error() -> None:
    zeros = torch.zeros(2, 3, 8, 8)
    grey_and_white = torch.stack([torch.full((3, 8, 8), 0.5), torch.ones(3, 8, 8)])
    assert psnr(zeros, grey_and_white).tolist() == pytest.approx([6.020599913279624, 0.0], abs=1e-12)


def test_psnr_of_equal_frames_is_the_cap() -> None:
    a = frames(2, 0)
    assert psnr(a, a).tolist() == [100.0, 100.0]


def test_ssim_of_equal_frames_is_one() -> None:
    a = frames(2, 0)
    assert ssim(a, a).tolist() == [1.0, 1.0]


def test_both_agree_with_scikit_image() -> None:
    """In float64 to 1e-12: the same sums in another order."""
    reference = pytest.importorskip("skimage.metrics")
    a, b = frames(3, 0), frames(3, 1)
    a[2] = (b[2] + 0.01).clamp(0, 1)  # a close pair beside the far ones
    expected = [
        reference.structural_similarity(
            x.numpy(),
            y.numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    expected = [
        reference.peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=1.0)
        for x, y in zip(a, b, strict=True)
    ]
    assert psnr(a, b).tolist() == pytest.approx(expected, abs=1e-12)


def test_uint8_frames_are_taken_as_255ths() -> None:
    a, b = ((frames(2, seed) * 255).byte() for seed in (0, 1))
    for measure in (psnr, ssim):
        assert torch.equal(measure(a, b), measure(a.double() / 255, b))
    assert torch.equal(picture_statistics(a), picture_statistics(a.double() / 255))


def test_frames_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(V2WError, match=r"shapes \(2, 3, 24, 37\) and \(1, 3, 24, 37\)"):
        psnr(frames(2, 0), frames(1, 0))
    with pytest.raises(V2WError, match=r"frames of 10 by 37.*at least 11 by 11"):
        ssim(frames(1, 0, height=10), frames(1, 1, height=10))
    assert ssim(frames(1, 0, height=11), frames(1, 1, height=11)).shape == (1,)


def test_bootstrap_is_deterministic_and_leaves_the_global_generator() -> None:
    values = torch.rand(30, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)
    assert torch.equal(before, torch.get_rng_state())


def test_bootstrap_interval_has_the_width_of_the_mean_s_error() -> None:
    """Of 400 normal values: mean +- 1.96 sigma / 20. Within 10 %: 2000 draws place the quantiles to about 4 %."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    interval = bootstrap(values, seed=0)
    half = 1.96 * values.std(correction=0).item() / 20
    assert interval.mean == values.mean().item()
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)
    narrower = bootstrap(values, seed=0, level=0.5)
    assert interval.low < narrower.low < narrower.high < interval.high


def test_bootstrap_of_one_value_and_of_none() -> None:
    assert bootstrap(torch.tensor([0.25]), seed=0) == Interval(0.25, 0.25, 0.25)
    with pytest.raises(V2WError, match="no value"):
        bootstrap(torch.tensor([]), seed=0)


def test_picture_statistics_of_known_pictures() -> None:
    flat = torch.full((3, 4, 6), 0.25)
    columns = torch.tensor([0.0, 1.0]).repeat(3).expand(3, 4, 6)  # every horizontal step is 1
    rows = torch.tensor([0.0, 0.5]).repeat(2)[:, None].expand(3, 4, 6)  # every vertical step is 1/2
    expected = torch.tensor([[0.25, 0.0, 0.0], [0.5, 0.5, 1.0], [0.25, 0.25, 0.25]], dtype=torch.float64)
    measured = picture_statistics(torch.stack([flat, columns, rows]))
    assert (measured - expected).abs().max() < 1e-15  # the root of the variance rounds


def test_share_within_asks_all_statistics_of_a_frame() -> None:
    reference = torch.linspace(0, 100, 101)[:, None].expand(-1, 2)  # quantiles .01 and .99 are 1 and 99
    rows = [[1.0, 99.0], [50.0, 50.0], [50.0, 99.5], [0.5, 50.0], [50.0, float("nan")]]
    assert share_within(torch.tensor(rows), reference) == 2 / 5
    assert share_within(torch.tensor(rows), reference, low=0.0, high=1.0) == 4 / 5


def test_a_statistic_of_resampled_episodes() -> None:
    """A ratio of sums: its interval is that of the ratio, and resamples without a denominator do not count."""
    hits = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 4.0]])

    def ratio(chosen: Tensor) -> Tensor:
        right, of = chosen.sum(1).unbind(-1)
        return right / of

    found = bootstrap_of(hits, ratio, seed=0)
    assert found.mean == 0.5
    assert (found.low, found.high) == (0.25, 0.75)
    assert bootstrap(hits[:, 0], 0) == bootstrap_of(hits[:, 0], lambda chosen: chosen.mean(1), 0)
