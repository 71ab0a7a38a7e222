"""Recordings as users have them: videos, pictures and tables of the episodes that no codec can confuse."""

import csv
import json
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.data.coloured import episodes
from v2w_convert.data import Episode

NAMES = ["x", "y"]


def video(file: Path, frames: np.ndarray, fps: int = 9) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def pictures(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{number}.png")


def table(file: Path, actions: np.ndarray, names: list[str] = NAMES) -> None:
    """.csv, .jsonl or .npz, by its suffix."""
    if file.suffix == ".npz":
        np.savez(file, actions=actions)
    elif file.suffix == ".jsonl":
        file.write_text(
            "".join(json.dumps({"frame": i, "action": row}) + "\n" for i, row in enumerate(actions.tolist()))
        )
    else:
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows(
                [["frame_index", *names], *([i, *row] for i, row in enumerate(actions.tolist()))]
            )


def folder_of_videos(folder: Path, suffix: str = ".csv") -> Path:
    """clip_2, clip_10 and clip_11, in this order."""
    folder.mkdir()
    for number, episode in zip((2, 10, 11), episodes(), strict=True):
        video(folder / f"clip_{number}.mp4", episode.frames)
        table(folder / f"clip_{number}{suffix}", episode.actions)
    return folder


def alike(found: list[Episode], tolerance: int = 5) -> bool:
    """Whether these are those episodes; frames are lossy, but flat colours 15 apart."""
    wanted = episodes()
    return len(found) == len(wanted) and all(
        np.array_equal(one.actions, other.actions)
        and one.frames.shape == other.frames.shape
        and np.abs(one.frames.astype(int) - other.frames).max() <= tolerance
        for one, other in zip(found, wanted, strict=True)
    )
