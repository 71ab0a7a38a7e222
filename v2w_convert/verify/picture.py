"""Which frame's input reaches which frame's output, drawn for a reader who has never seen it."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, LEFT, RIGHT, TOP, BOTTOM = 44, 72, 120, 64, 84  # pixels
WEAK, STRONG = (205, 224, 243), (8, 38, 92)  # the ends of the colour scale
INK, LINE = (30, 30, 30), (200, 200, 200)
EXPLANATION = (
    "Colour: the largest change of an output frame when one input frame is replaced. White: none at all."
)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_influence(before: Tensor | None, after: Tensor) -> np.ndarray:
    """Influences (t t) of the base, if known, and of the world model side by side, uint8 (height width 3).

    The colour scale is logarithmic and common to both; exact zeros are white.
    """
    matrices = {"before: the base": before, "after: the world model": after}
    panels = {title: matrix for title, matrix in matrices.items() if matrix is not None}
    side = CELL * len(after)
    low, high = _decades(torch.stack([*panels.values()]))
    text = ImageFont.load_default(13)
    width = len(panels) * (LEFT + side) + RIGHT
    picture = Image.new("RGB", (max(width, 640), TOP + side + BOTTOM), "white")
    draw = ImageDraw.Draw(picture)
    for number, (title, matrix) in enumerate(panels.items()):
        left = LEFT + number * (LEFT + side)
        draw.text((left, 24), title, INK, ImageFont.load_default(18))
        _upright(picture, "output frame", (left - 44, TOP + side // 2), text)
        draw.text((left + side // 2, TOP + side + 26), "input frame that is replaced", INK, text, anchor="ma")
        for o, row in enumerate(matrix.tolist()):
            draw.text((left - 8, TOP + (o + 0.5) * CELL), str(o), INK, text, anchor="rm")
            draw.text((left + (o + 0.5) * CELL, TOP + side + 6), str(o), INK, text, anchor="ma")
            for i, value in enumerate(row):
                x, y = left + i * CELL, TOP + o * CELL
                draw.rectangle((x, y, x + CELL, y + CELL), _colour(value, low, high), LINE)
    _scale(draw, len(panels) * (LEFT + side) + 28, side, low, high, text)
    draw.text((LEFT, TOP + side + 54), EXPLANATION, INK, text)
    return np.array(picture)


def _decades(values: Tensor) -> tuple[int, int]:
    """Powers of ten between which all values lie that are not zero."""
    there = values[(values > 0) & torch.isfinite(values)]
    if len(there) == 0:
        return 0, 1
    low, high = math.floor(math.log10(there.min())), math.ceil(math.log10(there.max()))
    return low, max(high, low + 1)


def _colour(value: float, low: int, high: int) -> tuple[int, ...]:
    if value == 0:
        return (255, 255, 255)
    if not math.isfinite(value):
        return (220, 0, 0)
    share = (math.log10(value) - low) / (high - low)
    return tuple(round(a + share * (b - a)) for a, b in zip(WEAK, STRONG, strict=True))


def _scale(draw: ImageDraw.ImageDraw, left: int, side: int, low: int, high: int, font: Font) -> None:
    """The colour bar, a mark at each power of ten (not more than eight)."""
    for row in range(side):
        value = 10 ** (high - (row + 0.5) / side * (high - low))
        draw.line((left, TOP + row, left + 18, TOP + row), _colour(value, low, high))
    draw.rectangle((left, TOP, left + 18, TOP + side), None, LINE)
    for power in range(high, low - 1, -math.ceil((high - low) / 8)):
        y = TOP + side * (high - power) / (high - low)
        draw.text((left + 26, y), f"1e{power}", INK, font, anchor="lm")


def _upright(picture: Image.Image, words: str, center: tuple[int, int], font: Font) -> None:
    """Text that reads upwards."""
    right, bottom = map(int, font.getbbox(words)[2:])
    strip = Image.new("RGB", (right + 2, bottom + 2), "white")
    ImageDraw.Draw(strip).text((0, 0), words, INK, font)
    turned = strip.rotate(90, expand=True)
    picture.paste(turned, (center[0] - turned.width // 2, center[1] - turned.height // 2))
