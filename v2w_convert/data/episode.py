"""An episode: what was seen and what was done, frame by frame."""

from dataclasses import dataclass

import numpy as np

from v2w_convert.errors import V2WError


@dataclass(frozen=True)
class Episode:
    """One recorded episode.

    frames   (t, height, width, 3) uint8 RGB
    actions  (t, a) float32; row t is the action chosen on seeing frame t, so it leads to frame t + 1
             (the convention of LeRobot and of gymnasium). The last row leads nowhere.
    """

    frames: np.ndarray
    actions: np.ndarray

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
        if not np.isfinite(self.actions).all():
            raise V2WError(asked, "an action is NaN or infinite", "clean the actions before training on them")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def arriving_actions(self) -> np.ndarray:
        """Actions (t, a) as the world model takes them: row t led from frame t - 1 to frame t.

        Nothing led to the first frame; its row is zero here and the world model puts its learned
        "no action" there.
        """
        return np.concatenate([np.zeros_like(self.actions[:1]), self.actions[:-1]])
