"""Additive positions: where the base receives a frame's index, it receives the index in the stream.

Without that, folded clips of one frame would all have index 0.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.expression import ConfigInt, evaluate_int
from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.sites import Reference, Site, swap_class


class FramePosition(Operation):
    """Additive positions count frames in the stream."""

    name: ClassVar[str] = "frame_position"

    period: ConfigInt | None = Field(
        default=None,
        description="Indices count 0 … period-1 and begin again, so that a rollout of any length meets no index that "
        "finetuning (which samples where a clip begins) has not shown; none: they grow without end. A number, or an "
        "expression over the base's config.",
    )
    mode: Literal["embed", "add", "make", "join", "table"] = Field(
        default="embed",
        description="What the module does. `embed`: it maps indices to embeddings; `add`: it adds a row for each frame "
        "to its tokens; `make`: given a clip, it makes positions for each frame's tokens; `join`: it joins a prompt's "
        "tokens and a clip's in one sequence and adds positions; `table`: the base adds the rows of its buffer `table` "
        "to the module's input, and none to a single frame's.",
    )
    table: str | None = Field(default=None, description="A buffer (1 t d) of the base, for mode `table`.")

    def resolve(self, config: Mapping[str, Any]) -> Self:
        period = None if self.period is None else evaluate_int(self.period, config)
        if period is not None and period < 1:
            raise ValueError(f"period: {period} frames")
        if period is None and self.mode != "embed":
            raise ValueError(f"mode: {self.mode} needs a period, the length of the base's table")
        if (self.table is not None) != (self.mode == "table"):
            raise ValueError("table: belongs to `mode: table`")
        return self.model_copy(update={"period": period})

    def why_not(self, module: nn.Module) -> str | None:
        weights = [*module.parameters()]
        if weights and self.mode in ("embed", "add"):
            return f"is a {type(module).__name__}, which has weights of its own"
        return None

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(module, FACES[self.mode], name, period=self.period or 0)
        if root is not None and self.table is not None:
            module.root, module.table = Reference(root), self.table  # type: ignore[assignment]

    def named_tensors(self) -> list[str]:
        return [] if self.table is None else [self.table]

    @property
    def position_period(self) -> int | None:
        return self.period

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        # Of two clips, the second begins a frame late: finetuning lets them begin anywhere.
        if self.mode == "table":
            return []  # the base's own forward adds them, not this module: the identity claim measures it
        learned = self.mode == "join" and base.use_learned_positional_embeddings  # of clips of one size
        t = self.period or 7 if learned else min(self.period or 7, 7)
        late = min(t - 1, 1)

        def given(clips: Tensor) -> Tensor:
            """Of clips (2 t …) the frames that the site receives: (2 t-late …)."""
            return torch.stack([clips[0, : t - late], clips[1, late:]])

        site.context = clip_context(2, t - late)
        site.context.offset = torch.tensor([0, late])
        allowed = 0.0
        if self.mode == "embed":
            after = site(torch.zeros(2 * (t - late)))
            before = base(torch.arange(t).repeat(2))
        elif self.mode == "make":
            clip = torch.zeros(2, 3, t, 4, 6, dtype=torch.float64)
            after = site(given(clip.movedim(2, 1)).flatten(0, 1).unsqueeze(2))
            before = base(clip)
        elif self.mode == "join":
            channels, side = base.proj.in_channels, base.patch_size
            size = (base.sample_height, base.sample_width) if learned else (2 * side, 3 * side)
            clip = torch.randn(2, t, channels, *size, generator=generator, dtype=torch.float64)
            words = base.max_text_seq_length
            text = torch.randn(2, words, base.text_proj.in_features, generator=generator, dtype=torch.float64)
            after = site(text.repeat_interleave(t - late, 0), given(clip).flatten(0, 1)[:, None])[:, words:]
            before, allowed = base(text, clip)[:, -len(after[0]) * t :], 1e-12  # the clip's tokens come last
        else:
            tokens = torch.zeros(2, t, site.rows().shape[-1], dtype=torch.float64)
            after = site(given(tokens).flatten(0, 1)[:, None])
            before = base(tokens)
        expected = given(before.reshape(2, t, -1))
        return [
            Invariant(
                "equals the base's positions", max_abs_diff(after.reshape(expected.shape), expected), allowed
            )
        ]


class FramePositionSite(Site):
    """What the modules of all modes share.

    Attributes:
        period: Indices begin again after so many frames; 0: never.
    """

    period: int

    def indices(self) -> Tensor:
        """The index (b t n) int64 that each frame of this pass receives."""
        frames = self.frame_indices().expand(self.context.b, -1, -1)
        if self.context.offset is not None:
            frames = frames + self.context.offset[:, None, None]
        if self.period and not self.context.bidirectional:
            frames = torch.remainder(frames, self.period)
        return frames

    def add(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Tokens ((b t s) n d) and the rows (period d) of their frames."""
        own = rows[self.indices()][:, :, None].to(tokens)  # b t 1 n d
        output: Tensor = (tokens.unflatten(0, (self.context.b, self.context.t, -1)) + own).flatten(0, 2)
        return output


class EmbeddedPositionSite(FramePositionSite):
    """A module that maps frame indices ((b t n),) to embeddings ((b t n) d)."""

    def forward(self, index: Tensor) -> Any:
        return super().forward(self.indices().flatten().to(index.dtype))


class AddedPositionSite(FramePositionSite):
    """A module that receives tokens ((b t s) n d) and adds a row (1 t d) for each frame to them."""

    def rows(self) -> Tensor:
        """The position (period d) of each index."""
        weights = next(self.buffers())
        empty = weights.new_zeros(1, self.period, weights.shape[-1])
        rows: Tensor = super().forward(empty)[0]
        return rows

    def forward(self, tokens: Tensor) -> Tensor:
        return self.add(tokens, self.rows())


class TablePositionSite(FramePositionSite):
    """A module that receives tokens ((b t s) n d), to which the base adds no position where a clip is a single frame.

    Attributes:
        root: The base.
        table: Name of its buffer (1 t d) of positions.
    """

    root: Reference[nn.Module]
    table: str

    def forward(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().forward(self.add(tokens, self.root.tensor(self.table)[0]), *args, **kwargs)


class MadePositionSite(FramePositionSite):
    """A module that makes positions (b (t l) d) for clips (b c t h w); called on folded clips of n frames."""

    def forward(self, frames: Tensor) -> Tensor:
        clip = frames[:1, :, :1].expand(-1, -1, self.period, -1, -1)
        rows: Tensor = super().forward(clip)[0].unflatten(0, (self.period, -1))
        return rows[self.indices()].flatten(2, 3).flatten(0, 1)


class JoinedPositionSite(FramePositionSite):
    """CogVideoX's: text (b n d') and clips (b t c h w) -> one sequence (b (n + t m) d), positions on the latter.

    Learned positions are a clip's of the full length; to shorter clips the base adds those that they were learned from.
    """

    temporal_compression_ratio: int
    max_text_seq_length: int
    sample_height: int
    sample_width: int
    use_learned_positional_embeddings: bool
    pos_embedding: Tensor
    embed_dim: int
    patch_size: int
    spatial_interpolation_scale: float
    temporal_interpolation_scale: float

    def forward(self, text: Tensor, frames: Tensor) -> Tensor:
        size, learned = tuple(frames.shape[-2:]), (self.sample_height, self.sample_width)
        if self.use_learned_positional_embeddings and size != learned:
            raise V2WError(
                "call the world model",
                f"latents are {size[0]} x {size[1]}, and positions are learned for {learned[0]} x {learned[1]} alone",
                "frames of that size",
            )
        joined = super().forward(text, frames)
        n = self.context.frames_per_block
        table = added = self._table(frames, self.period)
        whole = n * self.context.t == self.period or not self.context.bidirectional
        if self.use_learned_positional_embeddings and whole:
            table = self.pos_embedding
            added = table if n == self.period else added
        words = self.max_text_seq_length
        rows, given = (x[0, words:].unflatten(0, (self.period, -1)) for x in (table, added))
        moved = (rows[self.indices()] - given[:n]).flatten(2, 3).flatten(0, 1).to(joined)
        prompt = (table - added)[:, : text.shape[1]].to(joined)
        return torch.cat([joined[:, : text.shape[1]] + prompt, joined[:, text.shape[1] :] + moved], 1)

    def _table(self, frames: Tensor, t: int) -> Tensor:
        """The sines (1 words+t·m d) that the base adds to a prompt and a clip of t frames; 0 for the prompt."""
        length = (t - 1) * self.temporal_compression_ratio + 1
        h, w = frames.shape[-2:]
        return self._get_positional_embeddings(h, w, length, frames.device)

    def _get_positional_embeddings(
        self, h: int, w: int, length: int, device: torch.device | None = None
    ) -> Tensor:
        """The base's, for latents h × w and video frames, without `.data[…].copy_`, which cannot be exported to ONNX."""
        from diffusers.models.embeddings import get_3d_sincos_pos_embed

        rows = get_3d_sincos_pos_embed(
            self.embed_dim,
            (w // self.patch_size, h // self.patch_size),
            (length - 1) // self.temporal_compression_ratio + 1,
            self.spatial_interpolation_scale,
            self.temporal_interpolation_scale,
            device=device,
            output_type="pt",
        )
        return F.pad(rows.flatten(0, 1)[None], (0, 0, self.max_text_seq_length, 0))


FACES: dict[str, type[FramePositionSite]] = {
    "embed": EmbeddedPositionSite,
    "add": AddedPositionSite,
    "make": MadePositionSite,
    "join": JoinedPositionSite,
    "table": TablePositionSite,
}
