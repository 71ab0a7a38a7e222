import copy

import pytest
import torch
from torch import nn

from v2w_convert.operations import CausalConv, causal_conv
from v2w_convert.operations.causal_conv import _line, transfer_kernel
from v2w_convert.sites import ForwardContext

CASES = [("shift", None), ("masked", None), ("extrapolative", 1), ("extrapolative", 2), ("extrapolative", 3)]


def operation(transfer: str, points: int | None, before_first: str = "zeros") -> CausalConv:
    return CausalConv(at="x", transfer=transfer, points=points, before_first=before_first)


def converted(base: nn.Module, op: CausalConv) -> nn.Module:
    site = copy.deepcopy(base)
    weight = op.transfer_tensor("weight", base.weight.data)
    if weight is not None:
        site.weight.data = weight
    op.install(site, "site", 0)
    return site


@pytest.mark.parametrize("before_first", ["zeros", "hold"])
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize(("transfer", "points"), CASES)
def test_the_invariant_holds_and_breaks_with_the_kernel(
    transfer: str, points: int | None, k: int, before_first: str
) -> None:
    torch.manual_seed(0)
    base = nn.Conv3d(6, 5, (k, 1, 1), padding=(k // 2, 0, 0)).double()
    base.weight.data = base.weight.data.float().double()  # as if stored in float32
    op = operation(transfer, points, before_first)
    site = converted(base, op)
    unit = torch.finfo(torch.float32).eps
    with torch.no_grad():
        (kept,) = op.check_invariants(base, site, torch.Generator().manual_seed(1), unit)
        assert kept.ok, kept
        site.weight[0, 0, -1] += 0.5
        (broken,) = op.check_invariants(base, site, torch.Generator().manual_seed(1), unit)
        assert not broken.ok, broken


def test_the_papers_kernel() -> None:
    """k = 3, p = 2: [0, w-1 - w1, w0 + 2 w1] (arXiv 2505.14357, appendix A.3)."""
    weight = torch.randn(4, 3, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    before, now, after = weight.unbind(2)
    expected = torch.stack([torch.zeros_like(now), before - after, now + 2 * after], 2)
    assert torch.equal(transfer_kernel(weight, 2), expected)


def test_three_points_are_the_least_squares_line() -> None:
    weight = torch.zeros(1, 1, 3, 1, 1)
    weight[0, 0, 2] = 1  # the future tap alone: it is replaced by the line's value one step ahead
    torch.testing.assert_close(transfer_kernel(weight, 3).flatten(), torch.tensor([-2.0, 1.0, 4.0]) / 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_transfer_keeps_the_dtype(dtype: torch.dtype) -> None:
    weight = torch.randn(4, 3, 5, 1, 1, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(transfer_kernel(weight, 2), transfer_kernel(weight.float(), 2).to(dtype))


@pytest.mark.parametrize("before_first", ["zeros", "hold"])
@pytest.mark.parametrize(
    "base", [nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)), nn.Conv2d(2, 2, (5, 1), padding=(2, 0))]
)
def test_frame_by_frame_equals_the_clip(base: nn.Module, before_first: str) -> None:
    site = converted(base.double(), operation("masked", None, before_first))
    b, t = 2, 9
    extra = (1, 4, 3) if isinstance(base, nn.Conv3d) else (1, 12)
    x = torch.randn(b * t, 2, *extra, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    site.context = ForwardContext(b=b, t=t, cursor=torch.tensor(0))
    expected = site(x).unflatten(0, (b, t))
    frames = x.unflatten(0, (b, t))
    state, cursor, found = {"inputs": torch.zeros(b, 2, base.kernel_size[0] - 1, *extra[1:]).double()}, 0, []
    for n in (1, 3, 2, 3):
        site.context = ForwardContext(
            b=b, t=n, cursor=torch.tensor(cursor), past={"site": state}, commit=True
        )
        found.append(site(frames[:, cursor : cursor + n].flatten(0, 1)).unflatten(0, (b, n)))
        state, cursor = site.context.new_states["site"], cursor + n
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Linear(3, 3), "not a convolution"),
        (nn.Conv3d(1, 1, (4, 1, 1), padding=(2, 0, 0)), "temporal kernel of 4"),
        (nn.Conv3d(1, 1, (1, 3, 3)), "temporal kernel of 1"),
        (nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0), stride=(2, 1, 1)), "stride 2"),
        (nn.Conv3d(1, 1, (3, 1, 1)), "padded by 0"),
    ],
)
def test_refusals(module: nn.Module, reason: str) -> None:
    assert reason in (operation("masked", None).why_not(module) or "")


def test_more_points_than_taps_are_refused() -> None:
    conv = nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0))
    assert "too few" in (operation("extrapolative", 4).why_not(conv) or "")
    assert operation("extrapolative", 3).why_not(conv) is None


def plain(weight: torch.Tensor, points: int) -> torch.Tensor:
    """The kernel tap by tap, all rows at once, in float64."""
    k = weight.shape[2]
    m = k // 2
    taps = weight.double().unbind(2)
    causal = [torch.zeros_like(taps[0])] * m + list(taps[: m + 1])
    for back in range(points):
        for ahead in range(1, m + 1):
            causal[k - 1 - back] = causal[k - 1 - back] + _line(ahead, back, points) * taps[m + ahead]
    return torch.stack(causal, 2).to(weight.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("space", [(), (1, 1), (3, 3)])
def test_rows_are_worked_on_in_pieces_to_the_same_bits(
    dtype: torch.dtype, k: int, space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weight = (
        torch.randn(37, 11, k, *space) * 10 ** torch.linspace(-6, 3, 37).view(37, *[1] * (2 + len(space)))
    ).to(dtype)
    for rows in (1, 1000, 2**18):
        monkeypatch.setattr(causal_conv, "CHUNK", rows)
        for points in range(k + 1):
            for given in (weight, weight.transpose(0, 1)):
                found = transfer_kernel(given, points)
                assert found.is_contiguous()
                assert torch.equal(found, plain(given, points)), (rows, points)
