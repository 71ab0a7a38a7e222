"""Fitting a `Rotary` to vectors that a `Rotary` rotated gives that `Rotary`."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from v2w_convert.draft.rotary_fit import RotaryFitError, fit_rotary
from v2w_convert.operations.rotary import Rotary

HEADS, T, WIDTH = 2, 5, 24


def rotary(**fields: Any) -> Rotary:
    return Rotary.model_validate(fields)


def rotated(rotary: Rotary, learned: Tensor | None = None, width: int = WIDTH) -> Tensor:
    """One random vector of each head, rotated by 0 … t-1 frames: (heads t d)."""
    x = torch.randn(HEADS, 1, 1, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return rotary.rotate(x.expand(-1, T, -1, -1), torch.arange(T), learned).squeeze(2)


CONFIG: dict[str, Any] = {
    "attention_head_dim": WIDTH,
    "num_attention_heads": HEADS,
    "rope_theta": 256.0,
    "interpolation_scale_t": 2.0,
    "rope_axes_dim": [10, 6, 8],
}
HALF = 2 * (HEADS * WIDTH // 6)


@pytest.mark.parametrize(
    "made",
    [
        rotary(size="attention_head_dim // 3"),
        rotary(size="rope_axes_dim[0]", theta="rope_theta"),
        rotary(size="attention_head_dim // 3", pairing="half", scale="1 / interpolation_scale_t"),
        rotary(size="attention_head_dim // 3", pairing="half_head"),
        rotary(size="attention_head_dim // 3", start=5, theta=77.7),
        rotary(size="attention_head_dim // 3", stride=3, ascending=True, theta=100.0, scale=0.02),
        rotary(size="2 * (num_attention_heads * attention_head_dim // 6)", stride=3, heads="joined"),
        # Every second pair rotates by whole rotations, which look like none.
        rotary(size=18, scale=torch.pi, theta=10000.0, ascending=True),
    ],
)
def test_a_rotation_is_fitted_by_the_rotary_that_made_it(made: Rotary) -> None:
    theta: float | str = made.theta  # an expression, until it is resolved
    resolved = made.resolve(CONFIG)
    fitted = fit_rotary(rotated(resolved), nn.Module(), CONFIG)
    assert fitted is not None
    found = fitted.resolve(CONFIG)
    numbers = {"theta": resolved.theta, "scale": resolved.scale}  # worked out from angles that were rounded
    assert {"theta": found.theta, "scale": found.scale} == pytest.approx(numbers, rel=1e-9)
    assert found.model_copy(update=numbers) == resolved
    if isinstance(theta, str):
        assert fitted.theta == theta


def test_learned_frequencies_are_found_among_the_bases_parameters() -> None:
    root = nn.Module()
    generator = torch.Generator().manual_seed(1)
    root.frequencies = nn.Parameter(torch.rand(3, HEADS, 4, generator=generator, dtype=torch.float64))
    learned = rotary(size=8, learned="frequencies")
    fitted = fit_rotary(rotated(learned, root.frequencies.detach(), 8), root, CONFIG)
    assert fitted is not None
    assert fitted.learned == "frequencies"
    assert fitted.resolve(CONFIG).size == 8


def test_equal_vectors_have_no_rotary() -> None:
    assert fit_rotary(torch.ones(HEADS, T, WIDTH), nn.Module(), CONFIG) is None


def test_vectors_that_do_not_rotate_are_refused() -> None:
    x = torch.randn(HEADS, T, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(RotaryFitError, match="rotates with no other"):
        fit_rotary(x, nn.Module(), CONFIG)


def test_uneven_rotations_are_refused() -> None:
    angle = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0], dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], -1).expand(HEADS, -1, -1)
    with pytest.raises(RotaryFitError, match="evenly"):
        fit_rotary(x, nn.Module(), CONFIG)
