"""Layers of DynamiCrafter's UNet: each takes folded frames ((b t) c h w) and what guides them, and returns folded frames.

Parameters are named as in the released checkpoints, so numbers stand for layers, and `temopral_conv` is theirs.
(DynamiCrafter, arXiv 2310.12190; Doubiiu/DynamiCrafter, lvdm/modules/networks/openaimodel3d.py and lvdm/modules/attention.py.)
"""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

GROUPS = 32
DROPOUT = 0.1  # while training: behind every residual block's last norm, and within temporal convolutions


class Guidance(NamedTuple):
    """What the layers receive beside the frames.

    Attributes:
        t: Frames of a clip.
        embedding: ((b t) d), of the noise level and the frame rate.
        text: ((b t) n d), tokens that each frame attends to.
        image: ((b t) m d), the same of each frame's image.
    """

    t: int
    embedding: Tensor
    text: Tensor
    image: Tensor


def zeroed(module: M) -> M:
    """`module` with every parameter at zero: where it ends a residual branch, the branch starts without effect."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Embedding(nn.ModuleDict):
    """Numbers, as cosines and sines (b c) -> (b 4c).

    Not a Sequential, which would call every child: an action's embedding may be added as one.
    """

    def __init__(self, channels: int):
        wide = 4 * channels
        super().__init__({"0": nn.Linear(channels, wide), "2": nn.Linear(wide, wide)})

    def forward(self, waves: Tensor) -> Tensor:
        output: Tensor = self["2"](F.silu(self["0"](waves)))
        return output


# ------------------------------------------------------------------------------------------------ convolutions


class Residual(nn.Module):
    """Two convolutions within each frame, the embedding between them, then four in time."""

    def __init__(self, channels: int, out_channels: int, embedding: int):
        super().__init__()
        first = nn.Conv2d(channels, out_channels, 3, padding=1)
        last = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), first)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out_channels), nn.SiLU(), nn.Dropout(DROPOUT), last
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)
        self.temopral_conv = TemporalConvolutions(out_channels)

    def forward(self, frames: Tensor, guidance: Guidance) -> Tensor:
        hidden = self.in_layers(frames) + self.emb_layers(guidance.embedding)[:, :, None, None]
        frames = self.skip_connection(frames) + self.out_layers(hidden)
        clips = rearrange(frames, "(b t) c h w -> b c t h w", t=guidance.t)
        output: Tensor = rearrange(self.temopral_conv(clips), "b c t h w -> (b t) c h w")
        return output


class TemporalConvolutions(nn.Module):
    """Four convolutions over time of clips (b c t h w), each behind a norm over the clip."""

    def __init__(self, channels: int):
        super().__init__()
        for number in (1, 2, 3, 4):
            dropout = [nn.Dropout(DROPOUT)] if number > 1 else []
            taps = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
            layers = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), *dropout, taps)
            self.add_module(f"conv{number}", layers)
        zeroed(taps)

    def forward(self, clips: Tensor) -> Tensor:
        changed = clips
        for layers in self.children():
            changed = layers(changed)
        return clips + changed


class Down(nn.Module):
    """Half as high and wide."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, frames: Tensor, guidance: Guidance) -> Tensor:
        output: Tensor = self.op(frames)
        return output


class Up(nn.Module):
    """Twice as high and wide."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, frames: Tensor, guidance: Guidance) -> Tensor:
        output: Tensor = self.conv(F.interpolate(frames, scale_factor=2.0, mode="nearest"))
        return output


# -------------------------------------------------------------------------------------------------- attention


class Attention(nn.Module):
    """Self-attention of tokens (b n d); with `context_dim`, attention to other tokens (b m context_dim)."""

    def __init__(self, width: int, heads: int, context_dim: int | None = None):
        super().__init__()
        self.heads = heads
        self.is_cross_attention = context_dim is not None
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_dim or width, width, bias=False)
        self.to_v = nn.Linear(context_dim or width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, hidden_states: Tensor) -> Tensor:
        query, key, value = (project(hidden_states) for project in (self.to_q, self.to_k, self.to_v))
        output: Tensor = self.to_out(attend(self.heads, query, key, value))
        return output


def attend(heads: int, *projected: Tensor) -> Tensor:
    """Attention of queries, keys and values, all (b n d): (b n d)."""
    query, key, value = (rearrange(x, "b n (heads d) -> b heads n d", heads=heads) for x in projected)
    return rearrange(F.scaled_dot_product_attention(query, key, value), "b heads n d -> b n (heads d)")


class TextImageAttention(Attention):
    """Attention to a frame's text and, separately, to its image tokens; the two are added.

    With a learned scale, the attention to the image counts 1 + tanh(alpha) times.
    """

    def __init__(self, width: int, heads: int, context_dim: int, scale_learnable: bool):
        super().__init__(width, heads, context_dim)
        self.to_k_ip = nn.Linear(context_dim, width, bias=False)
        self.to_v_ip = nn.Linear(context_dim, width, bias=False)
        self.alpha = nn.Parameter(torch.zeros(())) if scale_learnable else None

    def forward(self, hidden_states: Tensor, text: Tensor, image: Tensor) -> Tensor:  # type: ignore[override]
        query = self.to_q(hidden_states)
        from_text = attend(self.heads, query, self.to_k(text), self.to_v(text))
        from_image = attend(self.heads, query, self.to_k_ip(image), self.to_v_ip(image))
        if self.alpha is not None:
            from_image = from_image * (1 + self.alpha.tanh())
        output: Tensor = self.to_out(from_text + from_image)
        return output


class GatedLinear(nn.Module):
    """Half of the outputs times the other half's GELU."""

    def __init__(self, width: int, out_width: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * out_width)

    def forward(self, tokens: Tensor) -> Tensor:
        value, gate = self.proj(tokens).chunk(2, dim=-1)
        output: Tensor = value * F.gelu(gate)
        return output


class FeedForward(nn.Module):
    """A feed-forward layer, four times as wide within."""

    def __init__(self, width: int):
        super().__init__()
        # The identity keeps the checkpoints' numbering.
        self.net = nn.Sequential(GatedLinear(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.net(tokens)
        return output


class TransformerBlock(nn.Module):
    """Self-attention, the `second` attention (to the forward's other arguments), feed-forward; each behind a norm."""

    def __init__(self, width: int, heads: int, second: Attention):
        super().__init__()
        self.attn1 = Attention(width, heads)
        self.attn2 = second
        self.ff = FeedForward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, tokens: Tensor, *others: Tensor) -> Tensor:
        tokens = tokens + self.attn1(self.norm1(tokens))
        tokens = tokens + self.attn2(self.norm2(tokens), *others)
        output: Tensor = tokens + self.ff(self.norm3(tokens))
        return output


class SpatialTransformer(nn.Module):
    """The pixels of each frame see each other, the text and the frame's image tokens."""

    def __init__(self, channels: int, heads: int, context_dim: int, scale_learnable: bool):
        super().__init__()
        second = TextImageAttention(channels, heads, context_dim, scale_learnable)
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, second)])
        self.proj_out = zeroed(nn.Linear(channels, channels))

    def forward(self, frames: Tensor, guidance: Guidance) -> Tensor:
        h = frames.shape[2]
        tokens = self.proj_in(rearrange(self.norm(frames), "bt c h w -> bt (h w) c"))
        for block in self.transformer_blocks:
            tokens = block(tokens, guidance.text, guidance.image)
        output: Tensor = frames + rearrange(self.proj_out(tokens), "bt (h w) c -> bt c h w", h=h)
        return output


class TemporalTransformer(nn.Module):
    """The frames at each pixel see each other, twice; they have no positions.

    Args:
        channels: Of the frames.
        heads: Of the attention.
        width: Of the attention, where it is not the channels'; the projections then are convolutions over one frame.
    """

    def __init__(self, channels: int, heads: int, width: int | None = None):
        super().__init__()
        within = width or channels
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, within) if width is None else nn.Conv1d(channels, within, 1)
        block = TransformerBlock(within, heads, second=Attention(within, heads))
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = zeroed(
            nn.Linear(within, channels) if width is None else nn.Conv1d(within, channels, 1)
        )

    def forward(self, frames: Tensor, guidance: Guidance) -> Tensor:
        h, w = frames.shape[2:]
        clips = rearrange(frames, "(b t) c h w -> b c t h w", t=guidance.t)
        tokens = self._project(self.proj_in, rearrange(self.norm(clips), "b c t h w -> (b h w) t c"))
        for block in self.transformer_blocks:
            tokens = block(tokens)
        changed = self._project(self.proj_out, tokens)
        return frames + rearrange(changed, "(b h w) t c -> (b t) c h w", h=h, w=w)

    @staticmethod
    def _project(projection: nn.Module, tokens: Tensor) -> Tensor:
        linear = isinstance(projection, nn.Linear)
        output: Tensor = projection(tokens if linear else tokens.transpose(1, 2))
        return output if linear else output.transpose(1, 2)
