"""Training curves as a picture."""

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SIZE = (720, 360)
LEFT, TOP, RIGHT, BOTTOM = 64, 40, 20, 48  # margins
COLOURS = ("#9db7d5", "#c0392b", "#1f4e79")
INK, GRID = "#222222", "#dddddd"
Points = list[tuple[float, float]]
MEAN = 25  # steps that a point of the training curve is the mean of


def draw_log(lines: list[dict[str, Any]], file: Path) -> None:
    """Write the losses of a run's log as a PNG."""
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    groups = [losses[i : i + MEAN] for i in range(0, len(losses), MEAN)]
    training = [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]
    validation = [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]
    title = f"finetuning: loss (means of {MEAN} steps)"
    draw_curves({"training": training} | ({"validation": validation} if validation else {}), title, file)


def draw_curves(curves: dict[str, Points], title: str, file: Path) -> None:
    """Write a PNG of several curves (name -> (x, y) points) over one pair of linear axes that begin at 0."""
    font = ImageFont.load_default(13)
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    points = [point for curve in curves.values() for point in curve]
    most_x, most_y = (max((p[axis] for p in points), default=1) or 1 for axis in (0, 1))
    width, height = SIZE[0] - LEFT - RIGHT, SIZE[1] - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + width * x / most_x, TOP + height * (1 - y / most_y)

    for part in range(5):
        x, y = most_x * part / 4, most_y * part / 4
        draw.line([place(0, y), place(most_x, y)], GRID)
        draw.text((LEFT - 8, place(0, y)[1]), f"{y:.3g}", INK, font, anchor="rm")
        draw.text((place(x, 0)[0], SIZE[1] - BOTTOM + 8), f"{x:.0f}", INK, font, anchor="mt")
    draw.text((LEFT + width / 2, SIZE[1] - 8), "step", INK, font, anchor="mb")
    draw.text((LEFT, 8), title, INK, ImageFont.load_default(15))
    end: float = SIZE[0] - RIGHT
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        places = [place(*point) for point in curve]
        if len(places) > 1:
            draw.line(places, colour, 2)
        for x, y in places if len(places) < 40 else []:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
        draw.text((end, 10), name, colour, font, anchor="ra")
        end -= font.getlength(name) + 16
    picture.save(file, format="PNG")
