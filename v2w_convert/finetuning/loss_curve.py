"""Training curves as a picture."""

from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageDraw, ImageFont

SIZE = (720, 360)
LEFT, TOP, RIGHT, BOTTOM = 64, 40, 20, 48  # margins
COLOURS = ("#9db7d5", "#c0392b", "#1f4e79", "#2e8b57", "#8e5ea2", "#b8860b")  # as many curves are drawn
INK, GRID = "#222222", "#dddddd"
STEPS_PER_POINT = 25  # of the training curve, whose points are means
Points = list[tuple[float, float]]


def draw_log(lines: list[dict[str, Any]], file: Path) -> None:
    """Draw training and validation loss of a run.

    Args:
        lines: The lines of its log.
        file: The PNG to write.
    """
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    groups = [losses[i : i + STEPS_PER_POINT] for i in range(0, len(losses), STEPS_PER_POINT)]
    training = [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]
    validation = [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]
    title = f"finetuning: loss (means of {STEPS_PER_POINT} steps)"
    draw_curves({"training": training} | ({"validation": validation} if validation else {}), title, file)


def draw_curves(curves: dict[str, Points], title: str, file: Path | BinaryIO) -> None:
    """Draw several curves over one pair of linear axes that begin at 0.

    Args:
        curves: Points (x, y) by name.
        title: The title.
        file: The PNG to write, or where to write it.
    """
    font = ImageFont.load_default(13)
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    points = [point for curve in curves.values() for point in curve]
    max_x, max_y = (max((p[axis] for p in points), default=1) or 1 for axis in (0, 1))
    width, height = SIZE[0] - LEFT - RIGHT, SIZE[1] - TOP - BOTTOM

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        """A point of the axes in the picture."""
        return LEFT + width * x / max_x, TOP + height * (1 - y / max_y)

    for tick in range(5):
        x, y = max_x * tick / 4, max_y * tick / 4
        draw.line([to_pixels(0, y), to_pixels(max_x, y)], GRID)
        draw.text((LEFT - 8, to_pixels(0, y)[1]), f"{y:.3g}", INK, font, anchor="rm")
        draw.text((to_pixels(x, 0)[0], SIZE[1] - BOTTOM + 8), f"{x:.0f}", INK, font, anchor="mt")
    draw.text((LEFT + width / 2, SIZE[1] - 8), "step", INK, font, anchor="mb")
    draw.text((LEFT, 8), title, INK, ImageFont.load_default(15))
    end: float = SIZE[0] - RIGHT
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        pixels = [to_pixels(*point) for point in curve]
        if len(pixels) > 1:
            draw.line(pixels, colour, 2)
        for x, y in pixels if len(pixels) < 40 else []:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
        draw.text((end, 10), name, colour, font, anchor="ra")
        end -= font.getlength(name) + 16
    picture.save(file, format="PNG")
