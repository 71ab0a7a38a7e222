"""A picture of the distance from the base: by frame and noise level, and at the sites with the largest."""

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from v2w_convert.text import fold_paths

CELL_WIDTH, CELL, LEFT, TOP, GAP = 60, 36, 110, 104, 110  # pixels
MAX_BARS, BAR_HEIGHT, BAR_WIDTH, NAME_WIDTH = 12, 22, 260, 520
NEAR, FAR = (240, 244, 250), (150, 30, 30)  # the ends of the colour scale
INK, LINE, PALE = (30, 30, 30), (200, 200, 200), (255, 255, 255)


def draw_distance(figure: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Draw a report's `figures["distance"]`: a heat map over frames and noise levels, and bars of the worst sites.

    Colours go from 0 to the largest number, or to 1 if all are smaller.

    Returns:
        uint8 (height width 3).
    """
    levels, rows = figure["noise_levels"], figure["frames"]
    worst = _worst(figure["sites"])
    title, text, small = (ImageFont.load_default(size) for size in (18, 13, 12))
    map_width, map_height = CELL_WIDTH * len(rows[0]), CELL * len(rows)
    bars = TOP + map_height + GAP
    size = (max(LEFT + map_width + 40, 40 + NAME_WIDTH + BAR_WIDTH + 80), bars + BAR_HEIGHT * len(worst) + 40)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((24, 20), "How far the world model's output is from the base's", INK, title)
    draw.text((24, 50), "Norm of the difference over the norm of the base's output: 0 is equal", INK, text)
    largest = max([1.0, *(x for row in rows for x in row if x is not None)])
    for r, (level, row) in enumerate(zip(levels, rows, strict=True)):
        y = TOP + r * CELL
        draw.text((LEFT - 8, y + CELL / 2), f"{level:.3g}", INK, text, anchor="rm")
        for t, value in enumerate(row):
            x = LEFT + t * CELL_WIDTH
            share = 1.0 if value is None else value / largest
            draw.rectangle((x, y, x + CELL_WIDTH, y + CELL), _colour(share), LINE)
            label = "∞" if value is None else f"{value:.2f}"
            draw.text(
                (x + CELL_WIDTH / 2, y + CELL / 2), label, PALE if share > 0.5 else INK, small, anchor="mm"
            )
    for t in range(len(rows[0])):
        draw.text((LEFT + (t + 0.5) * CELL_WIDTH, TOP + map_height + 6), str(t), INK, text, anchor="ma")
    draw.text((24, TOP - 10), "noise level", INK, small, anchor="lb")
    draw.text((LEFT + map_width / 2, TOP + map_height + 26), "frame", INK, text, anchor="ma")
    if worst:
        draw.text(
            (24, bars - 36),
            "Sites with the largest difference: each alone, on the input of the base's own",
            INK,
            text,
        )
    longest = max([value for _, value in worst if math.isfinite(value)], default=1.0) or 1.0
    for number, (name, value) in enumerate(worst):
        y = bars + number * BAR_HEIGHT
        draw.text((24, y), _short(name), INK, small)
        length = BAR_WIDTH * min(value / longest, 1.0)
        draw.rectangle((40 + NAME_WIDTH, y + 2, 40 + NAME_WIDTH + length, y + BAR_HEIGHT - 6), FAR)
        draw.text((48 + NAME_WIDTH + length, y), f"{value:.2f}" if math.isfinite(value) else "∞", INK, small)
    return np.array(picture)


def _worst(sites: dict[str, float | None]) -> list[tuple[str, float]]:
    """The bars: sites whose paths differ in numbers only share one, as long as the largest of them."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for name, value in sites.items():
        kind = ".".join("*" if part.isdigit() else part for part in name.split("."))
        groups.setdefault(kind, []).append((name, math.inf if value is None else value))
    merged = [
        (next(iter(fold_paths(name for name, _ in group))), max(value for _, value in group))
        for group in groups.values()
    ]
    return sorted((each for each in merged if each[1] > 0), key=lambda each: -each[1])[:MAX_BARS]


def _short(name: str, limit: int = 76) -> str:
    return name if len(name) <= limit else f"…{name[1 - limit :]}"


def _colour(share: float) -> tuple[int, ...]:
    return tuple(round(a + share * (b - a)) for a, b in zip(NEAR, FAR, strict=True))
