"""An episode: what was seen and what was done, frame by frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_convert.errors import V2WError


@dataclass(frozen=True)
class Episode:
    """One recorded episode of t frames.

    Attributes:
        frames: uint8 RGB of shape (t, height, width, 3).
        actions: float32 of shape (t, a). Row i is the action chosen on seeing frame i, so it leads to frame
            i + 1 (the convention of LeRobot and of Gymnasium). The last row leads nowhere.
        tasks: What was being done, in words: one text, several where the task changes, none where nobody said.

    Raises:
        V2WError: Shapes or types are others, or an action is NaN or infinite.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        asked = "read an episode"
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise V2WError(
                asked,
                f"frames are {self.frames.dtype} of shape {self.frames.shape}",
                "uint8 (t, height, width, 3)",
            )
        if self.actions.ndim != 2 or len(self.actions) != len(self.frames):
            raise V2WError(
                asked,
                f"{len(self.frames)} frames but actions of shape {self.actions.shape}",
                "one action row per frame",
            )
        if not (finite := np.isfinite(self.actions).all(1)).all():
            found = f"the action in row {int(np.argmin(finite))} is NaN or infinite"
            raise V2WError(asked, found, "clean the actions before training on them")

    def __len__(self) -> int:
        """Frames, t."""
        return len(self.frames)

    @property
    def arriving_actions(self) -> NDArray[np.float32]:
        """Actions (t, a) as a world model takes them: row i led from frame i - 1 to frame i.

        Nothing led to the first frame; its row is zero here, and the world model replaces it by its learned
        "no action".
        """
        return np.concatenate([np.zeros_like(self.actions[:1]), self.actions[:-1]])


def with_last_row(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Actions (t, a) for t + 1 frames (t + 1, a). The last frame has none; it takes the row before, which leads nowhere."""
    return np.concatenate([actions, actions[-1:]])
