"""A contact sheet: frames of some episodes, and below each frame the action that was taken on seeing it.

An action is drawn as a bar for each number, up from the middle if it is positive and down if it is negative; the
longest bar is the number of the largest amount in the whole data set. Below it stand the frame's number, the choice that
was made and the keys that were down. Frames are drawn in pairs, so that one sees what an action did.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.check import ActionRanges
from v2w_convert.data.dataset import Dataset
from v2w_convert.data.episode import Episode
from v2w_convert.escape import printable
from v2w_convert.new_file import new_file

SIDE = 160  # pixels of a frame's longer side
BARS = 32  # pixels of the bars' height
LINE = 13  # pixels of a line of text
GAP = 4  # white pixels between frames
MAX_TEXT = 200  # characters of a line
MAX_BARS = SIDE // 2  # numbers of an action that are drawn
UP, DOWN, GROUND = (40, 90, 180), (200, 90, 30), (235, 235, 235)


@dataclass(frozen=True)
class Row:
    """What is drawn of an episode.

    Attributes:
        title: Which it is.
        pictures: A frame with its action each, all of one size.
    """

    title: str
    pictures: list[Image.Image]


def row_of(episode: Episode, number: int, data: Dataset, ranges: ActionRanges | None, columns: int) -> Row:
    """Frames of an episode, each with its action and its number, see `places`."""
    chosen = places(len(episode), columns)
    largest = np.ones(data.action_dim)
    if ranges is not None and ranges.count:
        largest = np.maximum(np.maximum(np.abs(ranges.low), np.abs(ranges.high)), 1e-30)
    space = data.action_space
    words = [f"{place}  {active(episode.actions[place], space)}" for place in chosen]
    pictures = [
        picture(episode.frames[place], episode.actions[place] / largest, text)
        for place, text in zip(chosen, words, strict=True)
    ]
    title = f"episode {number}, {len(episode)} frames, {len(episode) / data.fps:.1f} s"
    if episode.tasks:
        title += f": {printable('; '.join(episode.tasks))[:MAX_TEXT]}"
    return Row(title, pictures)


def places(length: int, columns: int) -> list[int]:
    """Which of `length` frames are drawn: all, or pairs of a frame and the one that its action leads to, evenly spaced.

    The first and the last frame are among them, if `columns` has room for two pairs.
    """
    if length <= columns:
        return list(range(length))
    begins = np.linspace(0, length - 2, max(columns // 2, 1)).round().astype(int).tolist()
    return sorted({place for begin in begins for place in (begin, begin + 1)})[:columns]


def picture(frame: NDArray[np.uint8], action: NDArray[np.float64], text: str) -> Image.Image:
    """A frame (h w 3), the bars of its action (a), each in [-1, 1], and a line of text."""
    h, w, _ = frame.shape
    scale = SIDE / max(h, w)
    size = (max(round(w * scale), 1), max(round(h * scale), 1))
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    whole = Image.new("RGB", (SIDE, size[1] + BARS + LINE), "white")
    whole.paste(Image.fromarray(frame).resize(size, kind), (0, 0))
    whole.paste(Image.fromarray(bars(action[:MAX_BARS])), (0, size[1] + 1))
    ImageDraw.Draw(whole).text((1, size[1] + BARS), text, fill="black")
    return whole


def bars(action: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The bars (BARS - 2, SIDE, 3) of numbers in [-1, 1]."""
    half = BARS // 2 - 1
    drawn = np.empty((2 * half, SIDE, 3), np.uint8)
    drawn[:] = GROUND
    edges = np.linspace(0, SIDE, len(action) + 1).round().astype(int)
    for value, left, right in zip(action, edges[:-1], edges[1:], strict=True):
        length = round(min(abs(float(value)), 1.0) * half)
        if value > 0:
            drawn[half - length : half, left : right - 1] = UP
        else:
            drawn[half : half + length, left : right - 1] = DOWN
    drawn[half - 1 : half + 1, ::2] = (150, 150, 150)  # the middle
    return drawn


def active(action: NDArray[np.float32], space: ActionSpace) -> str:
    """The choices that were made, and the keys that were down."""
    found = [
        part.labels[i]
        for part, place in space.slices
        if part.kind != "continuous"
        for i in np.flatnonzero(action[place])
    ]
    return printable(" ".join(found))[:MAX_TEXT]


def write_sheet(rows: list[Row], names: list[str], file: Path) -> None:
    """Write the rows, one below the other, as a new PNG file.

    Args:
        rows: One or more.
        names: Of the numbers of an action, told above them.
        file: The file.

    Raises:
        V2WError: The disk is full, or `file` is there.
    """
    heights = [LINE + 2 + row.pictures[0].height + GAP for row in rows]
    width = max(len(row.pictures) for row in rows) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, LINE + GAP + sum(heights)), "white")
    draw, top = ImageDraw.Draw(sheet), LINE + GAP
    draw.text((1, 0), printable(f"bars from left to right: {', '.join(names[:MAX_BARS])}"), fill="black")
    for row, height in zip(rows, heights, strict=True):
        draw.text((1, top), row.title, fill="black")
        for column, one in enumerate(row.pictures):
            sheet.paste(one, (column * (SIDE + GAP), top + LINE + 2))
        top += height
    with new_file(file) as partial, partial.open("wb") as stream:
        sheet.save(stream, format="PNG")
