import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import nn

from v2w_convert.errors import V2WError
from v2w_convert.operations import CausalAttention
from v2w_convert.sites import ForwardContext

B, T, S, D = 2, 7, 3, 8  # clips, frames, positions that attend separately, width


def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(query_dim=D, heads=2, dim_head=4).double().eval()


def converted(window: int | None, base: nn.Module | None = None) -> nn.Module:
    site = copy.deepcopy(base or attention())
    CausalAttention(at="x", window=window).install(site, "site", 0)
    return site


def tokens() -> torch.Tensor:
    return torch.randn(B, T, S, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run(site: nn.Module, x: torch.Tensor, **now: object) -> torch.Tensor:
    """(b t s d) through a site that takes ((b t s) 1 d)."""
    b, t = x.shape[:2]
    site.context = ForwardContext(b=b, t=t, **{"cursor": torch.tensor(0), **now})
    return site(x.reshape(-1, 1, D)).view(x.shape)


@pytest.mark.parametrize("window", [None, 1, 3])
def test_equals_the_base_on_what_is_visible(window: int | None) -> None:
    base, x = attention(), tokens()
    found = run(converted(window), x)
    for t in range(T):
        visible = x[:, max(0, t + 1 - (window or T)) : t + 1]
        expected = base(visible.transpose(1, 2).flatten(0, 1)).unflatten(0, (B, S))[:, :, -1]
        torch.testing.assert_close(found[:, t], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("t", range(T))
def test_the_future_changes_nothing(t: int) -> None:
    site, x = converted(4), tokens()
    changed = x.clone()
    changed[:, t + 1 :] += 1
    before, after = run(site, x), run(site, changed)
    assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    assert t == T - 1 or not torch.equal(before, after)


@pytest.mark.parametrize("window", [2, 3, 4])
@pytest.mark.parametrize("chunks", [(1,) * 7, (2, 1, 3, 1), (5, 2), (7,)])
def test_a_stream_equals_one_pass(window: int, chunks: tuple[int, ...]) -> None:
    site, x = converted(window), tokens()
    expected = run(site, x)
    blank = torch.zeros(B, S, 2, window - 1, 1, 4, dtype=torch.float64)
    state, cursor, found = {"keys": blank, "values": blank}, 0, []
    for n in chunks:
        part = x[:, cursor : cursor + n]
        past = {"cursor": torch.tensor(cursor), "past": {"site": state}}
        run(site, part + 1, **past)  # a pass that is not committed leaves no trace
        found.append(run(site, part, commit=True, **past))
        state, cursor = site.context.new_states["site"], cursor + n
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-14)


def test_two_sided_form_is_the_base() -> None:
    base, x = attention(), tokens()
    expected = base(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (B, S)).transpose(1, 2)
    torch.testing.assert_close(run(converted(3), x, bidirectional=True), expected, rtol=0, atol=1e-14)


def test_as_many_positions_as_frames_is_no_trap() -> None:
    """A two-dimensional mask is read as key padding when the batch is as large as the query count."""
    base = attention()
    x = torch.randn(1, 5, 5, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = run(converted(None), x)
    expected = base(x[:, :3].transpose(1, 2).flatten(0, 1)).view(1, 5, 3, D)[:, :, -1]
    torch.testing.assert_close(found[:, 2], expected, rtol=0, atol=1e-14)


def test_several_tokens_of_a_frame_see_each_other() -> None:
    base = attention()
    x = torch.randn(B, T, 4, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    site = converted(None)
    site.context = ForwardContext(b=B, t=T, cursor=torch.tensor(0))
    found = site(x.flatten(0, 1)).view(x.shape)
    expected = base(x[:, :4].flatten(1, 2)).view(B, 4, 4, D)[:, -1]
    torch.testing.assert_close(found[:, 3], expected, rtol=0, atol=1e-14)


def test_another_way_to_attend_is_refused() -> None:
    base = attention()
    base.set_processor(AttnProcessor())  # the legacy processor multiplies by itself
    with pytest.raises(V2WError, match="site.*0 calls of scaled_dot_product_attention"):
        run(converted(None, base), tokens())


def test_a_mask_of_the_bases_own_is_refused() -> None:
    class Masked(nn.Module):
        processor = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True)[:, 0]

    with pytest.raises(V2WError, match="mask of its own"):
        run(converted(None, Masked()), tokens())


def test_the_invariant_holds_and_breaks() -> None:
    base = attention()
    site = converted(None)
    operation = CausalAttention(at="x")
    with torch.no_grad():
        assert all(
            k.ok for k in operation.check_invariants(base, site, torch.Generator().manual_seed(0), 1e-7)
        )
        site.to_v.weight[0, 0] += 1e-6
        assert not all(
            k.ok for k in operation.check_invariants(base, site, torch.Generator().manual_seed(0), 1e-7)
        )


def test_cross_attention_is_refused() -> None:
    cross = Attention(query_dim=D, cross_attention_dim=6, heads=2, dim_head=4)
    assert "something else" in (CausalAttention(at="x").why_not(cross) or "")
