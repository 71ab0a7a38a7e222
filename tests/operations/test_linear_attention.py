import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_sana_video import SanaLinearAttnProcessor3_0
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.operations import LinearAttention
from v2w_convert.operations.base import clip_context
from v2w_convert.operations.rotary import Rotary
from v2w_convert.verification.engine.exact import exact

B, T, TOKENS, HEADS, E = 2, 6, 4, 2, 8
STILL = torch.ones(1, 1, 1, E, dtype=torch.float64), torch.zeros(1, 1, 1, E, dtype=torch.float64)


def attention() -> nn.Module:
    torch.manual_seed(0)
    return Attention(
        query_dim=HEADS * E, heads=HEADS, dim_head=E, processor=SanaLinearAttnProcessor3_0()
    ).double()


@pytest.fixture
def site() -> nn.Module:
    module = attention()
    LinearAttention(at="x", rotary=Rotary(size=4)).install(module, "site", 0)
    return module


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(
        B, T, TOKENS, HEADS * E, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def run(site: nn.Module, tokens: Tensor) -> Tensor:
    with torch.no_grad(), exact():
        return site(tokens.flatten(0, 1), rotary_emb=STILL).view_as(tokens)


def table(t: int) -> tuple[Tensor, Tensor]:
    """The base's own rotation of t frames, two pairs of channels in time."""
    angles = torch.arange(t, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(2).double() / 2)
    angle = (
        torch.cat([angles, torch.zeros(t, E // 2 - 2)], 1)
        .repeat_interleave(2, 1)
        .repeat_interleave(TOKENS, 0)
    )
    return angle.cos()[None, :, None], angle.sin()[None, :, None]


def test_a_frame_is_what_the_base_makes_of_a_clip_that_ends_with_it(site: nn.Module, tokens: Tensor) -> None:
    site.context = clip_context(B, T)
    found = run(site, tokens)
    base = attention()
    with torch.no_grad(), exact():
        for t in range(T):
            clip = base(tokens[:, : t + 1].flatten(1, 2), rotary_emb=table(t + 1))
            torch.testing.assert_close(found[:, t], clip[:, -TOKENS:], rtol=0, atol=1e-12)


def test_both_ways_it_is_the_base(site: nn.Module, tokens: Tensor) -> None:
    site.context = clip_context(B, T)
    site.context.bidirectional = True
    with torch.no_grad(), exact():
        expected = attention()(tokens.flatten(1, 2), rotary_emb=table(T)).view_as(tokens)
    torch.testing.assert_close(run(site, tokens), expected, rtol=0, atol=1e-12)


def test_two_sums_carry_the_past(site: nn.Module, tokens: Tensor) -> None:
    site.context = clip_context(B, T)
    expected = run(site, tokens)
    empty = {"keys": torch.zeros(B, HEADS, E, 1), "products": torch.zeros(B, HEADS, E, E)}
    state = {"site": {name: value.double() for name, value in empty.items()}}
    outputs, start = [], 0
    for size in (1, 3, 2):
        for commit in (False, True):
            site.context = clip_context(B, size)
            site.context.cursor += start
            site.context.past, site.context.commit = state, commit
            output = run(site, tokens[:, start : start + size])
        outputs.append(output)
        state, start = site.context.new_states, start + size
    torch.testing.assert_close(torch.cat(outputs, 1), expected, rtol=0, atol=1e-12)
    assert {name: value.shape for name, value in state["site"].items()} == {
        name: value.shape for name, value in empty.items()
    }


def test_another_attention_is_refused_or_raises(site: nn.Module, tokens: Tensor) -> None:
    plain = Attention(query_dim=16)
    reason = LinearAttention(at="x", rotary=Rotary(size=4)).why_not(plain)
    assert reason is not None
    assert "not a linear attention" in reason
    site.set_processor(plain.processor)
    site.context = clip_context(B, T)
    with pytest.raises(V2WError, match="made 0 sums and 0 products, not 1 and 2"):
        site(tokens.flatten(0, 1))
