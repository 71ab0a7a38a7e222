"""What `record` returns: plain data, whose names are the keys of the JSON."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RecordResult:
    """What was recorded.

    Attributes:
        env: The environment's id.
        output: The data set's folder.
        episodes: How many episodes.
        frames: Frames of all of them.
        height: Height of the frames.
        width: Width of the frames.
        fps: Frames a second.
        actions: A name for each number of an action.
        ended: Episodes that the environment ended; the others were as long as was asked for.
    """

    env: str
    output: str
    episodes: int
    frames: int
    height: int
    width: int
    fps: int
    actions: list[str]
    ended: int
