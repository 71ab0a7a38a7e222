"""A condition of a plan for one base: its shape, its null, and which frame receives which picture."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Size = int | Literal["h", "w", "tokens"]
DTYPES = {"int64": torch.int64, "bool": torch.bool}


@dataclass(frozen=True)
class ResolvedCondition:
    """A condition of the plan, for one base.

    Attributes:
        argument: Of the base's forward; None: concatenated to the latents' channels.
        sizes: The shape of one clip's, without batch; `h`, `w` and `tokens` are known when it is called.
        default_tokens: For each axis, the number of tokens that the null condition has; 0 where it is no axis of tokens.
        fill: The null condition: this number everywhere, or this row.
        dtype: `float` is the model's.
        layout: Where the base wants a picture for every frame, as einops writes it.
        later_frames: What the frames after the first receive where a picture is given once for a clip: the same, zeros,
            or, each having its own, nothing that could be given once.
        repeat_per_frame: Whether the base wants it for every frame, as if each were a clip.
    """

    argument: str | None
    sizes: tuple[Size, ...]
    default_tokens: tuple[int, ...]
    fill: float | list[float]
    dtype: Literal["float", "int64", "bool"]
    layout: str | None
    later_frames: Literal["same", "zeros", "own"]
    repeat_per_frame: bool

    @property
    def is_spatial(self) -> bool:
        """Whether it is as large as a frame."""
        return "h" in self.sizes

    @property
    def is_per_frame(self) -> bool:
        """Whether the base receives one for every frame, even if all are the same."""
        return self.layout is not None or self.argument is None

    @property
    def has_tokens(self) -> bool:
        """Whether it has any number of tokens, which the caller chooses."""
        return "tokens" in self.sizes

    def shape(self, h: int = 0, w: int = 0, tokens: int | None = None) -> tuple[int, ...]:
        """The shape of one clip's, without batch.

        Args:
            h: Height of the latents.
            w: Width of the latents.
            tokens: Number of tokens; None: as many as the null condition has.
        """
        return tuple(
            size if isinstance(size, int) else {"h": h, "w": w, "tokens": default if tokens is None else tokens}[size]
            for size, default in zip(self.sizes, self.default_tokens, strict=True)
        )  # fmt: skip

    def null(self, h: int = 0, w: int = 0, tokens: int | None = None) -> Tensor:
        """What the base receives where the user gives nothing, without batch. Arguments as in `shape`."""
        fill = torch.tensor(self.fill, dtype=DTYPES.get(self.dtype, torch.float32))
        return fill.expand(self.shape(h, w, tokens)).clone()

    def at_frames(self, value: Tensor, frames: Tensor) -> Tensor:
        """What some frames of a clip or stream receive, where each receives a picture.

        Args:
            value: (b c h w), given once: the first frame's, later ones as `later_frames` says. Or (b T c h w), one for
                each frame from the first on: the last holds for all frames after it.
            frames: (t,) int64, indices of the frames.

        Returns:
            (b t c h w).
        """
        if value.ndim == 4:
            given = [value, torch.zeros_like(value)] if self.later_frames == "zeros" else [value]
            value = torch.stack(given, 1)
        if value.shape[1] == 1:  # no copies
            return value.expand(-1, len(frames), -1, -1, -1)
        return value.index_select(1, frames.clamp(max=value.shape[1] - 1))

    def accepts(self, shape: tuple[int, ...], h: int = 0, w: int = 0) -> bool:
        """Whether a condition of this shape, without batch, may be given for latents of h × w."""
        return len(shape) == len(self.sizes) and all(
            size == "tokens" or a == b for size, a, b in zip(self.sizes, shape, self.shape(h, w), strict=True)
        )
