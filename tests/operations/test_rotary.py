"""Rotation in time: what a clip's own table adds to that of its first frame, for every way in which families rotate."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.transformers.transformer_cosmos import CosmosRotaryPosEmbed
from diffusers.models.transformers.transformer_ltx import LTXVideoRotaryPosEmbed
from diffusers.models.transformers.transformer_ltx import apply_rotary_emb as rotate_ltx
from torch import Tensor

from v2w_convert.operations.rotary import Rotary
from v2w_convert.verification.engine.exact import exact

HEADS, T, TOKENS, WIDTH = 2, 5, 6, 12


def adjacent(x: Tensor) -> Tensor:
    """Pairs of neighbours, time in channels 4 … 9."""
    cos, sin = get_1d_rotary_pos_embed(6, torch.arange(T), 50.0, use_real=True, freqs_dtype=torch.float64)
    part = apply_rotary_emb(x[..., 4:10].flatten(2, 3), [f.repeat_interleave(TOKENS, 0) for f in (cos, sin)])
    return torch.cat([x[..., :4], part.unflatten(2, (T, TOKENS)), x[..., 10:]], -1)


def cosmos(x: Tensor) -> Tensor:
    """Pairs of a head's halves."""
    rope = CosmosRotaryPosEmbed(WIDTH, max_size=(8, 8, 8), patch_size=(1, 1, 1), rope_scale=(2.0, 1.0, 1.0))
    cos, sin = rope(torch.zeros(1, 1, T, 2, 3), fps=30)
    first_cos, first_sin = (
        f.unflatten(0, (T, TOKENS))[:1].expand(T, -1, -1).flatten(0, 1) for f in (cos, sin)
    )
    rotated = apply_rotary_emb(x.flatten(2, 3), (cos, sin), use_real_unbind_dim=-2)
    back = apply_rotary_emb(rotated, (first_cos, -first_sin), use_real_unbind_dim=-2)
    return back.unflatten(2, (T, TOKENS))


def ltx(x: Tensor) -> Tensor:
    """Every third pair of all heads' channels together, from the sixth part's rest on."""
    rope = LTXVideoRotaryPosEmbed(HEADS * WIDTH + 2)
    wide = torch.cat([torch.zeros(1, T * TOKENS, 2), x.movedim(1, 3).flatten(3).flatten(1, 2)], -1).double()
    scale = (0.32, 32.0, 32.0)
    cos, sin = rope(wide, T, 2, 3, rope_interpolation_scale=scale)
    first_cos, first_sin = (
        f.unflatten(1, (T, TOKENS))[:, :1].expand(-1, T, -1, -1).flatten(1, 2) for f in (cos, sin)
    )
    back = rotate_ltx(rotate_ltx(wide, (cos, sin)), (first_cos, -first_sin))
    return back[..., 2:].unflatten(2, (HEADS, WIDTH)).unflatten(1, (T, TOKENS)).movedim(3, 1)


CASES: dict[str, tuple[dict[str, Any], Callable[[Tensor], Tensor]]] = {
    "adjacent": ({"start": 4, "size": 6, "theta": 50.0}, adjacent),
    "cosmos": (
        {"size": 4, "theta": 10000 * 2.0 ** (4 / 2), "scale": 0.8, "pairing": "half_head"},
        cosmos,
    ),
    "ltx": (
        {"size": 8, "scale": math.pi * 0.32 / 20, "ascending": True, "stride": 3, "heads": "joined"},
        ltx,
    ),
}


@pytest.mark.parametrize(("fields", "base"), CASES.values(), ids=CASES)
def test_a_clip_is_rotated_as_the_base_rotates_it(
    fields: dict[str, Any], base: Callable[[Tensor], Tensor]
) -> None:
    x = torch.randn(
        1, HEADS, T, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    with exact():
        expected = base(x)
    found = Rotary(**fields).rotate(x, torch.arange(T))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found[:, :, 1:], x[:, :, 1:])


def test_only_differences_of_positions_matter() -> None:
    rotary = Rotary(size=WIDTH, pairing="half")
    q, k = torch.randn(2, 1, HEADS, T, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0)).double()
    early, late = torch.arange(T), torch.arange(T) + 1000

    def scores(positions: Tensor) -> Tensor:
        rotated = (rotary.rotate(x, positions).flatten(2, 3) for x in (q, k))
        return torch.einsum("bhnd,bhmd->bhnm", *rotated)

    torch.testing.assert_close(scores(late), scores(early), rtol=0, atol=1e-10)


def test_a_learned_table_rotates_every_head_by_its_own() -> None:
    learned = torch.randn(
        3, HEADS, WIDTH // 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    learned.requires_grad_(True)
    x = torch.randn(
        1, HEADS, T, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    rotated = Rotary(size=WIDTH, learned="table").rotate(x, torch.arange(T), learned)
    angle = 3 * learned[0, 1, 2]
    a, b = x[0, 1, 3, 0, 4:6]
    torch.testing.assert_close(rotated[0, 1, 3, 0, 4], a * angle.cos() - b * angle.sin())
    rotated.sum().backward()
    assert learned.grad is not None
    assert learned.grad[0].abs().min() > 0
    assert not learned.grad[1:].any()


def test_a_part_that_cannot_be_rotated_in_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="3 channels cannot be rotated in pairs"):
        Rotary(size="axes[0]").resolve({"axes": [3]})
