"""How far from the base: by frame and noise level, and at which sites most."""

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from v2w_convert.report import fold_paths

CELL_WIDTH, CELL, LEFT, TOP, GAP = 60, 36, 110, 104, 110  # pixels
BARS, BAR, BAR_WIDTH, NAMES = 12, 22, 260, 520
NEAR, FAR = (240, 244, 250), (150, 30, 30)  # the ends of the colour scale
INK, LINE, PALE = (30, 30, 30), (200, 200, 200), (255, 255, 255)


def draw_distance(figure: dict[str, Any]) -> np.ndarray:
    """A report's `figures["distance"]`, uint8 (height width 3): a heat map over frames and noise levels, and bars of the worst sites.

    Colours go from 0 to the largest number, or to 1 where all are smaller.
    """
    levels, rows = figure["noise_levels"], figure["frames"]
    worst = _worst(figure["sites"])
    title, text, small = (ImageFont.load_default(size) for size in (18, 13, 12))
    map_width, map_height = CELL_WIDTH * len(rows[0]), CELL * len(rows)
    bars = TOP + map_height + GAP
    size = (max(LEFT + map_width + 40, 40 + NAMES + BAR_WIDTH + 80), bars + BAR * len(worst) + 40)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((24, 20), "How far the world model's output is from the base's", INK, title)
    draw.text((24, 50), "0: the same; 1: as far as the base's output is from nothing", INK, text)
    most = max([1.0, *(x for row in rows for x in row if x is not None)])
    for r, (level, row) in enumerate(zip(levels, rows, strict=True)):
        y = TOP + r * CELL
        draw.text((LEFT - 8, y + CELL / 2), f"{level:.3g}", INK, text, anchor="rm")
        for t, value in enumerate(row):
            x = LEFT + t * CELL_WIDTH
            share = 1.0 if value is None else value / most
            draw.rectangle((x, y, x + CELL_WIDTH, y + CELL), _colour(share), LINE)
            said = "∞" if value is None else f"{value:.2f}"
            draw.text(
                (x + CELL_WIDTH / 2, y + CELL / 2), said, PALE if share > 0.5 else INK, small, anchor="mm"
            )
    for t in range(len(rows[0])):
        draw.text((LEFT + (t + 0.5) * CELL_WIDTH, TOP + map_height + 6), str(t), INK, text, anchor="ma")
    draw.text((24, TOP - 10), "noise level", INK, small, anchor="lb")
    draw.text((LEFT + map_width / 2, TOP + map_height + 26), "frame", INK, text, anchor="ma")
    if worst:
        draw.text(
            (24, bars - 36),
            "Farthest by themselves: each site alone, on what the base's own is given",
            INK,
            text,
        )
    longest = max([value for _, value in worst if math.isfinite(value)], default=1.0) or 1.0
    for number, (name, value) in enumerate(worst):
        y = bars + number * BAR
        draw.text((24, y), _short(name), INK, small)
        length = BAR_WIDTH * min(value / longest, 1.0)
        draw.rectangle((40 + NAMES, y + 2, 40 + NAMES + length, y + BAR - 6), FAR)
        draw.text((48 + NAMES + length, y), f"{value:.2f}" if math.isfinite(value) else "∞", INK, small)
    return np.array(picture)


def _worst(sites: dict[str, float | None]) -> list[tuple[str, float]]:
    """Sites whose paths differ in numbers only are one bar, the worst of them its length."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for name, value in sites.items():
        kind = ".".join("*" if part.isdigit() else part for part in name.split("."))
        groups.setdefault(kind, []).append((name, math.inf if value is None else value))
    merged = [
        (next(iter(fold_paths(name for name, _ in group))), max(value for _, value in group))
        for group in groups.values()
    ]
    return sorted((each for each in merged if each[1] > 0), key=lambda each: -each[1])[:BARS]


def _short(name: str, most: int = 76) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _colour(share: float) -> tuple[int, ...]:
    return tuple(round(a + share * (b - a)) for a, b in zip(NEAR, FAR, strict=True))
