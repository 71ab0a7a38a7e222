"""Recordings become a data set. The tutorial "Your own robot data" shows this file."""

# --8<-- [start:write]
from collections.abc import Iterator

import numpy as np

from v2w_convert import Episode
from v2w_convert.data import write_dataset

JOINTS = [f"joint_{number}" for number in range(6)]


def recordings(count: int, seed: int) -> Iterator[Episode]:
    """Your own reader goes here; this one makes up pictures and actions."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        frames = random.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
        actions = random.normal(size=(40, 7)).astype(np.float32)
        yield Episode(frames, actions)


write_dataset(
    recordings(8, seed=0),
    "data/train",
    fps=10,
    action_names=[*JOINTS, "gripper"],
    task="pick up the cube",
    robot="arm",
)
write_dataset(
    recordings(2, seed=1), "data/test", fps=10, action_names=[*JOINTS, "gripper"]
)
# --8<-- [end:write]
# --8<-- [start:read]
from v2w_convert import open_dataset

data = open_dataset("data/train")
print(len(data), data.action_dim, data.action_names, max(data.lengths))
first = data.first()
print(first.frames.shape, first.actions.shape)  # (40, 64, 64, 3) (40, 7)
# --8<-- [end:read]
