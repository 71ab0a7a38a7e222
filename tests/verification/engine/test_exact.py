import pytest
import torch
from torch import nn
from torch.profiler import profile

from v2w_convert.verification.engine.exact import exact

THIRD = torch.tensor([1.0], dtype=torch.float64) / 3


def test_no_cast_narrows_float64() -> None:
    like = torch.zeros(1)
    with exact():
        for cast in (
            THIRD.float(),
            THIRD.half(),
            THIRD.to(torch.float32),
            THIRD.to(dtype=torch.bfloat16),
            THIRD.to(like),
            THIRD.to(tensor=like),
            torch.linalg.vector_norm(THIRD, dtype=torch.float32),
        ):
            assert torch.equal(cast.view(1), THIRD)
    assert THIRD.float().dtype == torch.float32


def test_tables_are_made_in_float64() -> None:
    with exact():
        assert torch.arange(3, dtype=torch.float32).dtype == torch.float64
        assert torch.linspace(0, 1, 3, dtype=torch.float32).dtype == torch.float64
        assert torch.arange(3).dtype == torch.int64


def test_other_dtypes_and_casts_are_left_alone() -> None:
    with exact():
        assert THIRD.to(torch.int64).dtype == torch.int64
        assert torch.zeros(1).half().dtype == torch.float16
        assert torch.zeros(1, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("stride, padding, dilation", [(1, 1, 1), (2, 1, 1), (1, (0, 1), 1), (1, 2, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_small_images_are_convolved_as_one_product(
    stride: int, padding: int, dilation: int, bias: bool
) -> None:
    layer = nn.Conv2d(3, 5, 3, stride, padding, dilation, bias=bias).double()
    pictures = torch.randn(4, 3, 6, 5, dtype=torch.float64)
    expected = layer(pictures)
    with exact():
        found = layer(pictures)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)  # another order of sums
    many = torch.randn(4, 3, 12, 5, dtype=torch.float64)
    expected = layer(many)
    grouped = nn.Conv2d(4, 4, 3, groups=2).double()
    grouped_pictures = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    expected_grouped = grouped(grouped_pictures)
    with exact():
        torch.testing.assert_close(layer(many), expected, rtol=1e-13, atol=1e-13)
        assert torch.equal(grouped(grouped_pictures), expected_grouped)


def test_a_weight_is_read_once_for_all_images_and_rows() -> None:
    layer, linear = nn.Conv2d(3, 5, 3).double(), nn.Linear(6, 2).double()
    pictures, rows = torch.randn(4, 3, 6, 5, dtype=torch.float64), torch.randn(6, 3, 4, dtype=torch.float64)
    with profile() as ran, exact():
        layer(pictures)
        linear(rows.transpose(0, 2))
    names = [event.key for event in ran.key_averages()]
    assert "aten::im2col" in names
    assert "aten::bmm" not in names and "aten::_slow_conv2d_forward" not in names
