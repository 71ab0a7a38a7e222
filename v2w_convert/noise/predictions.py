"""What a base predicts: the target in training, and what an output says that a noisy frame is made of.

All formulas are written with a frame's alpha and sigma, `noisy = alpha * clean + sigma * noise`. Frames are
(b t c h w); alpha and sigma (b t), in float32 at least.
"""

from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v", "sample", "flow", "edm"]


def wide(level: Tensor, frames: Tensor) -> Tensor:
    """The level in at least float32: the square of EDM's largest sigma is too large for float16."""
    return level.to(torch.promote_types(frames.dtype, torch.float32))


def weighted_sum(weights: tuple[Tensor, ...], frames: tuple[Tensor, ...]) -> Tensor:
    """The sum of frames (b t c h w), each times its weights (b t), in the frames' dtype."""
    return sum(w.to(x.dtype)[..., None, None, None] * x for w, x in zip(weights, frames, strict=True))  # type: ignore[return-value]


def target_of(
    prediction: Prediction, clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor, data: float
) -> Tensor:
    """What the base should predict; `data`: the frames' standard deviation, in EDM's formulas."""
    match prediction:
        case "epsilon":
            return noise
        case "sample":
            return clean
        case "flow":
            return noise - clean
        case "v":
            size = (alpha**2 + sigma**2).sqrt()
            return weighted_sum((alpha / size, -sigma / size), (noise, clean))
        case "edm":
            size = (sigma**2 + data**2).sqrt()
            return weighted_sum((sigma / (data * size), -data / size), (clean, noise))
    raise AssertionError(prediction)


def split_output(
    prediction: Prediction, output: Tensor, noisy: Tensor, alpha: Tensor, sigma: Tensor, data: float
) -> tuple[Tensor, Tensor]:
    """The clean frames and the noise that the base's `output` says `noisy` is made of."""
    both = (noisy, output)
    match prediction:
        case "epsilon":
            return weighted_sum((1 / alpha, -sigma / alpha), both), output
        case "sample":
            return output, weighted_sum((1 / sigma, -alpha / sigma), both)
        case "flow":
            one = torch.ones_like(alpha)
            return weighted_sum((one, -sigma), both), weighted_sum((one, alpha), both)
        case "v":
            power = alpha**2 + sigma**2
            size = power.sqrt()
            clean = weighted_sum((alpha / power, -sigma / size), both)
            return clean, weighted_sum((sigma / power, alpha / size), both)
        case "edm":
            power = sigma**2 + data**2
            size = power.sqrt()
            clean = weighted_sum((data**2 / power, sigma * data / size), both)
            return clean, weighted_sum((sigma / power, -data / size), both)
    raise AssertionError(prediction)
