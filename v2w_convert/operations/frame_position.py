"""Additive positions: where the base is told a frame's index, it is given the index in the stream.

Folded clips of one frame would all be told index 0.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from v2w_convert.expression import evaluate_int
from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.sites import Site, swap_class


class FramePosition(Operation):
    """period  indices count 0 … period-1 and begin again, so that a rollout of any length meets no index
            that finetuning (which draws where a clip begins) has not shown; None: they grow without end.
            A number, or worked out from the base's config
    mode    `embed`: the module maps indices to embeddings; `add`: it adds a row for each frame of its tokens;
            `make`: given a clip, it makes positions for each frame's tokens; `join`: it puts a prompt's tokens and
            a clip's into one sequence and adds positions; `table`: the base adds row after row of its buffer
            `table` to the module's input, and none to a single frame's
    table   a buffer (1 t d) of the base
    """

    name: ClassVar[str] = "frame_position"
    period: int | str | None = None
    mode: Literal["embed", "add", "make", "join", "table"] = "embed"
    table: str | None = None

    def resolve(self, config: Mapping[str, Any]) -> "FramePosition":
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
        self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None, n: int = 1
    ) -> None:
        if self.mode == "embed":
            swap_class(module, EmbeddedPositionSite, name, period=self.period)
            return
        if self.mode in ("make", "join"):
            face = MadePositionSite if self.mode == "make" else JoinedPositionSite
            swap_class(module, face, name, period=self.period)
            return
        table = getattr(root, self.table) if self.table is not None else None
        swap_class(module, AddedPositionSite, name, period=self.period, table=table)

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        """Of two clips, the second begins a frame late, as finetuning has them begin anywhere."""
        assert not isinstance(self.period, str)
        if self.mode == "table":
            return []  # the base's own forward adds them, not this module: the identity claim sees it
        t = min(self.period or 7, 7)
        late = min(t - 1, 1)

        def given(clips: Tensor) -> Tensor:
            """Of clips (2 t …) the frames that the site is given: (2 t-late …)."""
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
            clip = torch.randn(2, t, channels, 2 * side, 3 * side, generator=generator, dtype=torch.float64)
            text = torch.randn(2, 3, base.text_proj.in_features, generator=generator, dtype=torch.float64)
            after = site(text.repeat_interleave(t - late, 0), given(clip).flatten(0, 1)[:, None])[:, 3:]
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
    period: int | None

    def places(self) -> Tensor:
        """The index (b t n) int64 that each frame of this pass is told."""
        frames = self.frame_indices().expand(self.context.b, -1, -1)
        if self.context.offset is not None:
            frames = frames + self.context.offset[:, None, None]
        if self.period is not None and not self.context.bidirectional:
            frames = torch.remainder(frames, self.period)
        return frames


class EmbeddedPositionSite(FramePositionSite):
    """A module that maps frame indices ((b t n),) to embeddings ((b t n) d)."""

    def forward(self, index: Tensor) -> Tensor:
        return super().forward(self.places().flatten().to(index.dtype))


class AddedPositionSite(FramePositionSite):
    """A module that is given tokens ((b t s) n d) without their frames' positions, or with that of frame 0."""

    table: Tensor | None

    def rows(self) -> Tensor:
        """The position (period d) of each index."""
        if self.table is not None:
            return self.table[0]
        assert self.period is not None
        weights = next(self.buffers())
        empty = weights.new_zeros(1, self.period, weights.shape[-1])
        return super().forward(empty)[0]

    def forward(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows = self.rows()[self.places()]  # b t n d
        rows = rows[:, :, None].to(tokens)
        placed = (tokens.unflatten(0, (self.context.b, self.context.t, -1)) + rows).flatten(0, 2)
        return placed if self.table is None else super().forward(placed, *args, **kwargs)


class MadePositionSite(FramePositionSite):
    """A module that makes positions (b (t l) d) for clips (b c t h w); called on folded clips of n frames."""

    def forward(self, frames: Tensor) -> Tensor:
        assert self.period is not None
        longest = frames[:1, :, :1].expand(-1, -1, self.period, -1, -1)
        rows = super().forward(longest)[0].unflatten(0, (self.period, -1))
        return rows[self.places()].flatten(2, 3).flatten(0, 1)


class JoinedPositionSite(FramePositionSite):
    """CogVideoX's: text (b n d') and clips (b t c h w) -> one sequence (b (n + t m) d), positions on the latter."""

    temporal_compression_ratio: int
    max_text_seq_length: int
    _get_positional_embeddings: Callable[..., Tensor]

    def forward(self, text: Tensor, frames: Tensor) -> Tensor:
        joined = super().forward(text, frames)
        assert self.period is not None
        clip = (self.period - 1) * self.temporal_compression_ratio + 1
        table = self._get_positional_embeddings(*frames.shape[-2:], clip, device=frames.device)
        rows = table[0, self.max_text_seq_length :].unflatten(0, (self.period, -1))
        moved = (
            (rows[self.places()] - rows[: self.context.frames_per_block])
            .flatten(2, 3)
            .flatten(0, 1)
            .to(joined)
        )
        return torch.cat([joined[:, : text.shape[1]], joined[:, text.shape[1] :] + moved], 1)
