"""How near frames are to the true ones, how certain that number is, and whether frames still look like the data.

Frames are (n 3 height width), float in [0, 1] or uint8 in [0, 255]. Everything is computed and returned in
float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.result import Interval

PSNR_CAP_DB = 100.0
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, (n,), with peak 1.

    Capped at 100 dB, which equal frames reach, so that means over frames stay finite.

    Raises:
        V2WError: The shapes differ.
    """
    a, b = _comparable(a, b)
    error = (a - b).square().mean((1, 2, 3))
    return (-10 * error.log10()).clamp(max=PSNR_CAP_DB)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity, (n,), at most 1, which equal frames reach.

    The mean over channels and over the window's valid positions (no padding), with gaussian weights,
    population covariance and data range 1. Source: Wang et al. 2004, "Image quality assessment: from error
    visibility to structural similarity".

    Raises:
        V2WError: The shapes differ, or a frame is smaller than the window of 11.
    """
    a, b = _comparable(a, b)
    if min(a.shape[-2:]) < WINDOW:
        raise V2WError(
            "measure ssim", f"frames of {a.shape[-2]} by {a.shape[-1]}", f"at least {WINDOW} by {WINDOW}"
        )
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a = _blurred(a * a) - mean_a * mean_a
    variance_b = _blurred(b * b) - mean_b * mean_b
    covariance = _blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a * mean_a + mean_b * mean_b + K1**2)
    structure = (2 * covariance + K2**2) / (variance_a + variance_b + K2**2)
    return (luminance * structure).mean((1, 2, 3))


def bootstrap(values: Tensor, seed: int, resamples: int = 2000, level: float = 0.95) -> Interval:
    """The mean of some values and its percentile interval over resamples with replacement.

    Deterministic given the seed.

    Args:
        values: One value per episode (n,): frames of one episode are not independent, and resampling them
            makes the interval too narrow.
        seed: The seed of the resampling.
        resamples: How many resamples of n values.
        level: The share of resamples whose mean lies in the interval.

    Raises:
        V2WError: There is no value.
    """
    return bootstrap_of(values, lambda chosen: chosen.mean(1), seed, resamples, level)


def bootstrap_of(
    values: Tensor,
    statistic: Callable[[Tensor], Tensor],
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """As `bootstrap`, of any statistic of what was measured on each episode.

    Args:
        values: What was measured on each episode (n …).
        statistic: Of each of r choices of m episodes (r m …): (r,). Where it is NaN, the resample does not count.
        seed: The seed of the resampling.
        resamples: How many resamples of n episodes.
        level: The share of resamples whose statistic lies in the interval.

    Raises:
        V2WError: There is no value.
    """
    if not len(values):
        raise V2WError("bootstrap a mean", "no value", "more or longer episodes")
    values = values.double().cpu()
    n = len(values)
    generator = torch.Generator().manual_seed(seed)
    found = statistic(values[torch.randint(n, (resamples, n), generator=generator)])
    tail = (1 - level) / 2
    low, high = (found.nanquantile(share).item() for share in (tail, 1 - tail))
    return Interval(statistic(values[None]).item(), low, high)


def picture_statistics(frames: Tensor) -> Tensor:
    """Mean, standard deviation and gradient energy of each frame, (n 3).

    The gradient energy is the mean squared difference of horizontal neighbours plus that of vertical
    ones: it falls when frames blur and rises when they break up into noise.
    """
    frames = _unit_range(frames)
    across, down = frames.diff(dim=-1), frames.diff(dim=-2)
    energy = across.square().mean((1, 2, 3)) + down.square().mean((1, 2, 3))
    return torch.stack([frames.mean((1, 2, 3)), frames.std((1, 2, 3), correction=0), energy], 1)


def within(statistics: Tensor, reference: Tensor, low: float = 0.01, high: float = 0.99) -> Tensor:
    """Which frames' statistics all lie within the range of reference frames: (n,) float64, 1 or 0.

    Args:
        statistics: k statistics of n frames (n k). NaN lies in no range.
        reference: The same of m reference frames (m k).
        low: Lower end of the range, as a quantile; it belongs to the range.
        high: Upper end of the range, as a quantile; it belongs to the range.
    """
    bounds = torch.tensor([low, high], dtype=torch.float64, device=reference.device)
    lowest, highest = reference.double().quantile(bounds, dim=0)
    inside = (statistics >= lowest) & (statistics <= highest)
    every: Tensor = inside.all(1).double()
    return every


def share_within(statistics: Tensor, reference: Tensor, low: float = 0.01, high: float = 0.99) -> float:
    """The share of frames whose statistics all lie within the range of reference frames: the mean of `within`.

    Compare it with what other real frames get, a little under high - low, not with 1.
    """
    return float(within(statistics, reference, low, high).mean())


def _comparable(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape:
        raise V2WError(
            "compare frames", f"shapes {tuple(a.shape)} and {tuple(b.shape)}", "frames of one size"
        )
    return _unit_range(a), _unit_range(b)


def _unit_range(frames: Tensor) -> Tensor:
    return frames.double() / 255 if frames.dtype == torch.uint8 else frames.double()


def _blurred(frames: Tensor) -> Tensor:
    """The gaussian window's weighted mean at its valid positions: (n 3 height-10 width-10)."""
    offset = torch.arange(WINDOW, dtype=frames.dtype, device=frames.device) - WINDOW // 2
    weights = torch.softmax(-offset.square() / (2 * SIGMA**2), 0)
    planes = frames.flatten(0, 1)[:, None]
    across = conv2d(planes, weights.view(1, 1, 1, WINDOW))
    blurred: Tensor = conv2d(across, weights.view(1, 1, WINDOW, 1))[:, 0].unflatten(0, frames.shape[:2])
    return blurred
