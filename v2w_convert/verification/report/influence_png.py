"""A picture of which input frame influences which output frame."""

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL, LEFT, RIGHT, TOP, BOTTOM = 44, 72, 130, 64, 104  # pixels
PAST = (205, 224, 243), (8, 38, 92)  # the ends of the colour scale of what a frame may depend on
FUTURE = (255, 220, 190), (150, 45, 5)  # and of what comes after it
INK, LINE = (30, 30, 30), (200, 200, 200)
EXPLANATION = (
    "Colour: the largest change of an output frame when one input frame is replaced.",
    "Orange: that frame comes later. White: no change, not by one bit.",
)

Matrix = list[list[float | None]]  # row: output frame, column: input frame; None: not a finite number

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_influence(before: Matrix | None, after: Matrix, n: int = 1) -> np.ndarray[Any, Any]:
    """Draw the influences of the base and of the world model side by side.

    The scale is logarithmic and common to both; exact zeros are white, values that are not finite are red.

    Args:
        before: The base's; None if not known.
        after: The world model's.
        n: Frames in a block.

    Returns:
        uint8 (height width 3).
    """
    matrices = {"before: the base": before, "after: the world model": after}
    panels = {title: matrix for title, matrix in matrices.items() if matrix is not None}
    side = CELL * len(after)
    low, high = decades([*panels.values()])
    text = ImageFont.load_default(13)
    width = len(panels) * (LEFT + side) + RIGHT
    picture = Image.new("RGB", (max(width, 640), TOP + side + BOTTOM), "white")
    draw = ImageDraw.Draw(picture)
    for number, (title, matrix) in enumerate(panels.items()):
        left = LEFT + number * (LEFT + side)
        draw.text((left, 24), title, INK, ImageFont.load_default(18))
        _vertical(picture, "output frame", (left - 44, TOP + side // 2), text)
        draw.text((left + side // 2, TOP + side + 26), "input frame that is replaced", INK, text, anchor="ma")
        for o, row in enumerate(matrix):
            draw.text((left - 8, TOP + (o + 0.5) * CELL), str(o), INK, text, anchor="rm")
            draw.text((left + (o + 0.5) * CELL, TOP + side + 6), str(o), INK, text, anchor="ma")
            for i, value in enumerate(row):
                x, y = left + i * CELL, TOP + o * CELL
                scale = FUTURE if i // n > o // n else PAST
                draw.rectangle((x, y, x + CELL, y + CELL), _colour(value, low, high, scale), LINE)
    _scale(draw, len(panels) * (LEFT + side) + 28, side, low, high, text)
    for line, sentence in enumerate(EXPLANATION):
        draw.text((LEFT, TOP + side + 54 + 20 * line), sentence, INK, text)
    return np.array(picture)


def decades(matrices: list[Matrix]) -> tuple[int, int]:
    """Return powers of ten between which all values except zeros lie."""
    values = [value for matrix in matrices for row in matrix for value in row if value]
    if not values:
        return 0, 1
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def log_position(value: float, low: int, high: int) -> float:
    """Return where a positive `value` lies between two powers of ten, 0 … 1."""
    return (math.log10(value) - low) / (high - low)


def _colour(value: float | None, low: int, high: int, scale: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    if value is None:
        return (220, 0, 0)
    if value == 0:
        return (255, 255, 255)
    at = log_position(value, low, high)
    return tuple(round(a + at * (b - a)) for a, b in zip(*scale, strict=True))


def _scale(draw: ImageDraw.ImageDraw, left: int, side: int, low: int, high: int, font: Font) -> None:
    """Draw the colour bar, with up to eight marks at powers of ten."""
    for row in range(side):
        value = 10 ** (high - (row + 0.5) / side * (high - low))
        for at, scale in ((left, FUTURE), (left + 18, PAST)):
            draw.line((at, TOP + row, at + 17, TOP + row), _colour(value, low, high, scale))
    draw.rectangle((left, TOP, left + 36, TOP + side), None, LINE)
    for power in range(high, low - 1, -math.ceil((high - low) / 8)):
        y = TOP + side * (high - power) / (high - low)
        draw.text((left + 44, y), f"1e{power}", INK, font, anchor="lm")


def _vertical(picture: Image.Image, text: str, center: tuple[int, int], font: Font) -> None:
    """Draw text that reads upwards."""
    right, bottom = map(int, font.getbbox(text)[2:])
    strip = Image.new("RGB", (right + 2, bottom + 2), "white")
    ImageDraw.Draw(strip).text((0, 0), text, INK, font)
    rotated = strip.rotate(90, expand=True)
    picture.paste(rotated, (center[0] - rotated.width // 2, center[1] - rotated.height // 2))
