"""Where the frames of one recording come from: a video, or a folder of pictures."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.formats.recorded_actions import natural
from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.memory import new_frames
from v2w_convert.data.validation.picture_files import SUFFIXES, picture_size, read_picture
from v2w_convert.data.validation.video_heads import read_head
from v2w_convert.data.validation.videos import CONTAINERS, decode
from v2w_convert.errors import V2WError

VIDEOS, PICTURES = tuple(CONTAINERS), SUFFIXES
MAX_PICTURES = 1_000_000  # of a recording


class Source(ABC):
    """A recording.

    Attributes:
        name: Of the file or folder in the data set.
        files: All that are read, in the order of the frames.
        length: Frames.
        size: Height and width of them.
        fps: Frames a second; None where nobody says.
        is_video: Whether it is one file.
    """

    name: str
    files: list[Path]
    length: int
    size: tuple[int, int]
    fps: float | None
    is_video: bool

    @abstractmethod
    def frames(self) -> NDArray[np.uint8]:
        """All frames (t, height, width, 3), decoded.

        Raises:
            V2WError: A file is damaged, of another size, or there are more or fewer.
        """


def open_source(folder: Path, name: str) -> Source:
    """The recording of this name in a data set, of which only heads are read.

    Raises:
        V2WError: It is damaged, or a link out of the folder.
    """
    if Path(name).suffix.lower() in VIDEOS:
        return VideoSource(folder, name)
    return PictureSource(folder, name)


class VideoSource(Source):
    """One video file."""

    is_video = True

    def __init__(self, folder: Path, name: str):
        self.name = name
        self.files = [file_in(folder, name)]
        head = read_head(self.files[0])
        self.length, self.size, self.fps = head.frames, (head.height, head.width), head.fps

    def frames(self) -> NDArray[np.uint8]:
        height, width = self.size
        asked = f"decode {self.files[0]}"
        made = new_frames((self.length, height, width, 3), asked, "its frames")
        count = 0
        for _, frame in decode(self.files[0], fps=self.fps or 1, height=height, width=width):
            if count == self.length:
                raise V2WError(asked, f"it has more frames than the {self.length} that it says it has")
            made[count] = frame
            count += 1
        if count < self.length:
            raise V2WError(asked, f"it has {count} frames, not the {self.length} that it says it has")
        return made


class PictureSource(Source):
    """A folder of pictures of one size, in the order of the numbers in their names."""

    is_video = False
    fps = None

    def __init__(self, folder: Path, name: str):
        self.name = name
        asked = f"read {folder / name}"
        names = [
            one for one in os.listdir(folder / name) if Path(one).suffix.lower() in PICTURES and one[0] != "."
        ]
        if len(names) > MAX_PICTURES:
            raise V2WError(asked, f"{len(names)} pictures, over the limit of {MAX_PICTURES}")
        self.files = [file_in(folder, Path(name, one)) for one in sorted(names, key=natural)]
        self.length = len(self.files)
        self.size = picture_size(self.files[0], f"read {self.files[0]}")

    def frames(self) -> NDArray[np.uint8]:
        made = new_frames((self.length, *self.size, 3), f"read {self.files[0].parent}", "its pictures")
        for number, file in enumerate(self.files):
            picture = read_picture(file, asked := f"read {file}")
            if picture.shape[:2] != self.size:
                height, width = picture.shape[:2]
                raise V2WError(
                    asked, f"it is {height} x {width}, the first picture {self.size[0]} x {self.size[1]}"
                )
            made[number] = picture
        return made
