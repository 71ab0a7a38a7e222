"""A data set as it is used: frames of one size, and every stride-th of them.

Frames are resized with Pillow's bicubic filter, which averages where it makes pictures smaller.
"""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.data.dataset import Dataset
from v2w_convert.data.episode import Episode
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.validation.memory import new_frames
from v2w_convert.errors import V2WError

RATE_TOLERANCE = 0.01  # of a rate: cameras of 29.97 and of 30 frames a second are taken for alike


class DatasetView(Dataset):
    """Another data set's episodes, their frames resized and thinned out.

    Of an episode of n frames, 1 + (n - 1) // stride are used: 0, stride, 2 · stride, …. An action leads from one of them to
    the next, so it is all actions recorded from the one to the other, one after the other: stride times as many
    numbers. Nothing is averaged or left out, so that it does not matter whether they are amounts, targets or choices.
    """

    def __init__(self, data: Dataset, size: tuple[int, int] | None, fit: str, stride: int):
        """Wrap a data set.

        Args:
            data: The data set.
            size: Height and width of the frames; None: as they are.
            fit: "crop", "pad" or "stretch".
            stride: Of the frames, 1 or more.
        """
        self.data, self.size, self.fit, self.stride = data, size, fit, stride
        self.path, self.camera, self.format = data.path, data.camera, data.format

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def fps(self) -> float:
        return self.data.fps / self.stride

    @property
    def cameras(self) -> list[str]:
        return self.data.cameras

    @property
    def action_names(self) -> list[str]:
        return self.action_space.names

    @property
    def action_space(self) -> ActionSpace:
        space = self.data.action_space
        if self.stride == 1:
            return space
        return ActionSpace(tuple(later(part, i) for i in range(self.stride) for part in space.parts))

    @property
    def lengths(self) -> list[int]:
        return [kept(length, self.stride) for length in self.data.lengths]

    @property
    def faults(self) -> list[str]:
        return self.data.faults

    @property
    def tasks(self) -> list[tuple[str, ...]]:
        return self.data.tasks

    def actions(self) -> Iterator[NDArray[np.float32]]:
        for actions in self.data.actions():
            yield together(actions, self.stride)

    def episodes(self) -> Iterator[Episode]:
        return self.episodes_from(0)

    def episodes_from(self, number: int) -> Iterator[Episode]:
        for i, episode in enumerate(self.data.episodes_from(number), number):
            frames = episode.frames[:: self.stride]
            if self.size is not None:
                frames = resized(frames, self.size, self.fit, f"read the data set {self.path}", i)
            actions = together(episode.actions, self.stride)
            yield Episode(np.ascontiguousarray(frames), actions, episode.tasks)

    def fingerprint(self) -> str:
        """The SHA-256 of the data set's own and of the view."""
        said = json.dumps(
            [self.data.fingerprint(), self.size, self.size and self.fit, self.stride], allow_nan=False
        )
        return hashlib.sha256(said.encode()).hexdigest()


def viewed(data: Dataset, settings: DataSettings) -> Dataset:
    """The data set as the settings say; itself where they change nothing.

    Raises:
        V2WError: Its rate divided by no whole number is the one that is asked for, or of no episode two frames are used.
    """
    stride = stride_of(data, settings)
    if stride > 1 and stride >= (longest := max(data.lengths, default=0)):
        asked = f"use one of {stride} frames of the data set {data.path}"
        raise V2WError(asked, f"the longest episode has {longest}", "a smaller stride")
    if settings.height is None or settings.width is None:
        if settings.fit is not None:
            raise V2WError(
                f"read the data set {data.path}", "--fit without a size", "--height and --width, too"
            )
        return data if stride == 1 else DatasetView(data, None, "crop", stride)
    return DatasetView(data, (settings.height, settings.width), settings.fit or "crop", stride)


def stride_of(data: Dataset, settings: DataSettings) -> int:
    """Of which frames one is used.

    Raises:
        V2WError: As `viewed`.
    """
    if settings.fps is None:
        return settings.stride or 1
    stride = max(round(data.fps / settings.fps), 1)
    if abs(data.fps / stride - settings.fps) > RATE_TOLERANCE * settings.fps:
        near = sorted({max(stride - 1, 1), stride, stride + 1})
        raise V2WError(
            f"read the data set {data.path} at {settings.fps:g} frames a second",
            f"it has {data.fps:g}, of which every second, third, … can be used",
            " or ".join([*(f"--fps {data.fps / each:.6g}" for each in near), "--stride 1 for its own rate"]),
        )
    return stride


def decided(
    data: Dataset, settings: DataSettings, recorded: DataSettings, frame: NDArray[np.uint8]
) -> DataSettings:
    """How `data` is read, once it is: with the size of its frames and its rate, whoever decided them.

    Args:
        data: What `open_dataset` returned.
        settings: With which.
        recorded: As `open_dataset` took it.
        frame: One of its frames (height width 3).
    """
    height, width, _ = frame.shape
    settings = settings.over(recorded, DataSettings.model_fields)
    said = settings.said() | {
        "height": height,
        "width": width,
        "fit": settings.fit or "crop",
        "fps": data.fps,
    }
    if counts := choice_counts(data):  # those that other data lacks are choices all the same
        said["choices"] = counts
    said.pop("stride", None)  # the rate says it, and holds for data of another rate, too
    return DataSettings(**said)


def choice_counts(data: Dataset) -> str | None:
    """How many choices each discrete number of a recorded action has, as `DataSettings.choices`; None where there is none."""
    recorded = data.data if isinstance(data, DatasetView) else data
    counts = [part.size for part in recorded.action_space.parts if part.kind == "discrete"]
    return ",".join(map(str, counts)) or None


def kept(length: int, stride: int) -> int:
    """How many of `length` frames are used."""
    return -(-length // stride)


def together(actions: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Actions (t, a) of every frame -> (j, stride · a), of every stride-th: those from it until the next.

    The last row, which leads nowhere, is filled with its last action.
    """
    j = kept(len(actions), stride)
    missing = j * stride - len(actions)
    filled = np.concatenate([actions, actions[-1:].repeat(missing, 0)])
    return np.ascontiguousarray(filled.reshape(j, -1))


def later(part: ActionPart, step: int) -> ActionPart:
    """A part of an action that is taken `step` recorded frames after the frame that is used."""
    if step == 0:
        return part
    own_names = part.kind != "discrete"  # a choice is named by its part and its label
    labels = tuple(f"{label}+{step}" for label in part.labels) if own_names else part.labels
    return ActionPart(f"{part.name}+{step}", part.kind, part.size, labels)


def resized(
    frames: NDArray[np.uint8], size: tuple[int, int], fit: str, asked: str, number: int
) -> NDArray[np.uint8]:
    """Frames (t h w 3) -> (t height width 3).

    Args:
        frames: The frames.
        size: (height, width). Frames that have it are returned as they are.
        fit: "crop": scaled to cover it, what stands over on two sides cut off alike; "pad": scaled to lie within it, with
            black on two sides; "stretch": scaled by another factor in height than in width.
        asked: What is being done, for the error message.
        number: The episode's number, for the error message.

    Raises:
        V2WError: There is no memory for them.
    """
    if frames.shape[1:3] == size:
        return frames
    height, width = size
    h, w = frames.shape[1:3]
    made = new_frames((len(frames), height, width, 3), asked, f"the resized frames of episode {number}")
    inner, box = (height, width), (0.0, 0.0, float(w), float(h))
    if fit == "crop":
        scale = max(height / h, width / w)
        across, down = min(width / scale, w), min(height / scale, h)
        box = ((w - across) / 2, (h - down) / 2, (w + across) / 2, (h + down) / 2)
    elif fit == "pad":
        scale = min(height / h, width / w)
        inner = (min(max(round(h * scale), 1), height), min(max(round(w * scale), 1), width))
        made[:] = 0
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    for frame, into in zip(frames, made, strict=True):
        picture = Image.fromarray(frame).resize(inner[::-1], Image.Resampling.BICUBIC, box)
        into[top : top + inner[0], left : left + inner[1]] = np.asarray(picture)
    return made
