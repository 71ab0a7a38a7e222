"""Which frame's input reaches which frame's output, drawn for a reader who has never seen it."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL, LEFT, RIGHT, TOP, BOTTOM = 44, 72, 130, 64, 104  # pixels
PAST = (205, 224, 243), (8, 38, 92)  # the ends of the colour scale of what a frame may depend on
FUTURE = (255, 220, 190), (150, 45, 5)  # and of what comes after it
INK, LINE = (30, 30, 30), (200, 200, 200)
EXPLANATION = (
    "Colour: the largest change of an output frame when one input frame is replaced.",
    "Orange: that frame comes later. White: no change at all, not of one bit.",
)

LEVELS = (28, 95, 196), (200, 80, 10), (23, 107, 58), (90, 90, 90)  # colours of noise levels
DISTANCE = (
    "How far an output frame is from the base's, as a share of that one's size (norm).",
    "One line for each noise level.",
)

Matrix = list[list[float | None]]  # row: output frame, column: input frame; None: not a finite number

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_influence(before: Matrix | None, after: Matrix, n: int = 1) -> np.ndarray:
    """Influences of the base, if known, and of the world model side by side, uint8 (height width 3).

    The scale is logarithmic and common to both; exact zeros are white, what is not finite is red. `n`: frames to a block.
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
        _upright(picture, "output frame", (left - 44, TOP + side // 2), text)
        draw.text((left + side // 2, TOP + side + 26), "input frame that is replaced", INK, text, anchor="ma")
        for o, row in enumerate(matrix):
            draw.text((left - 8, TOP + (o + 0.5) * CELL), str(o), INK, text, anchor="rm")
            draw.text((left + (o + 0.5) * CELL, TOP + side + 6), str(o), INK, text, anchor="ma")
            for i, value in enumerate(row):
                x, y = left + i * CELL, TOP + o * CELL
                scale = FUTURE if i // n > o // n else PAST
                draw.rectangle((x, y, x + CELL, y + CELL), _colour(value, low, high, scale), LINE)
    _scale(draw, len(panels) * (LEFT + side) + 28, side, low, high, text)
    for line, words in enumerate(EXPLANATION):
        draw.text((LEFT, TOP + side + 54 + 20 * line), words, INK, text)
    return np.array(picture)


def draw_distance(levels: list[float], rows: Matrix) -> np.ndarray:
    """The relative difference from the base by frame, a line for each noise level, uint8 (height width 3)."""
    left, top, width, height = 72, 48, 480, 260
    text = ImageFont.load_default(13)
    picture = Image.new("RGB", (left + width + 150, top + height + 110), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((left, 16), "distance from the base", INK, ImageFont.load_default(18))
    most = round_up(max([value for row in rows for value in row if value is not None], default=0.0))
    frames = max(len(row) for row in rows)
    for step in range(5):
        y = top + height * (4 - step) / 4
        draw.line((left, y, left + width, y), LINE)
        draw.text((left - 8, y), f"{most * step / 4:.2g}", INK, text, anchor="rm")
    across = [left + width * frame / max(frames - 1, 1) for frame in range(frames)]
    for frame in range(0, frames, math.ceil(frames / 12)):
        draw.text((across[frame], top + height + 8), str(frame), INK, text, anchor="ma")
    draw.text((left + width / 2, top + height + 28), "frame", INK, text, anchor="ma")
    for number, (level, row) in enumerate(zip(levels, rows, strict=True)):
        colour, y = LEVELS[number % len(LEVELS)], top + 12 + 22 * number
        points = [
            (x, top + height * (1 - v / most)) for x, v in zip(across, row, strict=False) if v is not None
        ]
        draw.line(points, colour, 2)
        for x, at in points:
            draw.ellipse((x - 3, at - 3, x + 3, at + 3), colour)
        draw.line((left + width + 16, y, left + width + 40, y), colour, 3)
        draw.text((left + width + 48, y), f"level {level:.3g}", INK, text, anchor="lm")
    for line, words in enumerate(DISTANCE):
        draw.text((left, top + height + 58 + 20 * line), words, INK, text)
    return np.array(picture)


def round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 8 and 10 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-12))


def decades(matrices: list[Matrix]) -> tuple[int, int]:
    """Powers of ten between which all values lie that are not zero."""
    there = [value for matrix in matrices for row in matrix for value in row if value]
    if not there:
        return 0, 1
    low, high = math.floor(math.log10(min(there))), math.ceil(math.log10(max(there)))
    return low, max(high, low + 1)


def share(value: float, low: int, high: int) -> float:
    """Where a positive `value` lies between two powers of ten, 0 … 1."""
    return (math.log10(value) - low) / (high - low)


def _colour(value: float | None, low: int, high: int, scale: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    if value is None:
        return (220, 0, 0)
    if value == 0:
        return (255, 255, 255)
    at = share(value, low, high)
    return tuple(round(a + at * (b - a)) for a, b in zip(*scale, strict=True))


def _scale(draw: ImageDraw.ImageDraw, left: int, side: int, low: int, high: int, font: Font) -> None:
    """The colour bar, a mark at each power of ten (not more than eight)."""
    for row in range(side):
        value = 10 ** (high - (row + 0.5) / side * (high - low))
        for at, scale in ((left, FUTURE), (left + 18, PAST)):
            draw.line((at, TOP + row, at + 17, TOP + row), _colour(value, low, high, scale))
    draw.rectangle((left, TOP, left + 36, TOP + side), None, LINE)
    for power in range(high, low - 1, -math.ceil((high - low) / 8)):
        y = TOP + side * (high - power) / (high - low)
        draw.text((left + 44, y), f"1e{power}", INK, font, anchor="lm")


def _upright(picture: Image.Image, words: str, center: tuple[int, int], font: Font) -> None:
    """Text that reads upwards."""
    right, bottom = map(int, font.getbbox(words)[2:])
    strip = Image.new("RGB", (right + 2, bottom + 2), "white")
    ImageDraw.Draw(strip).text((0, 0), words, INK, font)
    turned = strip.rotate(90, expand=True)
    picture.paste(turned, (center[0] - turned.width // 2, center[1] - turned.height // 2))
