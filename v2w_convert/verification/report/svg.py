"""The page's drawings, as SVG that takes its colours from the page's style sheet. Their text is numbers and fixed words."""

import math
from collections.abc import Iterable

from markupsafe import Markup

from v2w_convert.verification.report.influence_png import Matrix, decades, log_position

EDGE, SIDE = 44, 320  # units of the drawing: the margin, and about as wide as a matrix becomes
MIN_OPACITY = 0.16  # of the smallest influence, which must look different from none
MAX_LABELLED = 16  # rows up to which each cell has a title; with more frames than that, a row is a block if there are blocks


def merge_blocks(matrix: Matrix, n: int) -> Matrix:
    """Return the largest influences between blocks of n frames."""
    starts = range(0, len(matrix), n)
    return [
        [_largest(v for row in matrix[o : o + n] for v in row[i : i + n]) for i in starts] for o in starts
    ]


def _largest(values: Iterable[float | None]) -> float | None:
    found = list(values)
    return None if None in found else max(v for v in found if v is not None)


def draw_matrix(matrix: Matrix, both: list[Matrix], n: int, unit: str, label: str) -> Markup:
    """Draw which output frame (row) depends on which input frame (column).

    Args:
        matrix: The influences.
        both: All matrices that share one scale.
        n: Frames in a block, which may see each other.
        unit: What a row is: `frame`, or `block`.
        label: A description for screen readers.
    """
    low, high = decades(both)
    t = len(matrix)
    cell = max(SIDE // max(t, 8), 6)
    size, middle = EDGE + t * cell + 6, EDGE + t * cell / 2
    parts = [
        f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="{label}" style="max-width:{size}px">',
        _text(middle, 12, f"input {unit} that is replaced →"),
        f'<g transform="rotate(-90 12 {middle})">{_text(12, middle + 4, f"← output {unit}")}</g>',
    ]
    for o in range(0, t, math.ceil(t / 12)):
        parts.append(_text(EDGE - 10, EDGE + (o + 0.5) * cell + 4, o))
        parts.append(_text(EDGE + (o + 0.5) * cell, EDGE - 8, o))
    if t > MAX_LABELLED:
        parts += _shades(matrix, cell, n, low, high)
    for o, row in enumerate(matrix if t <= MAX_LABELLED else []):
        for i, value in enumerate(row):
            drawn = _cell(EDGE + i * cell, EDGE + o * cell, cell, value, i // n > o // n, low, high)
            title = (
                f"<title>output {unit} {o} changes {_amount(value)} when input {unit} {i} is replaced</title>"
            )
            parts.append(f"<g>{title}{drawn}</g>")
    steps = "".join(f"V{EDGE + o * cell}H{EDGE + min(o + n, t) * cell}" for o in range(0, t, n))
    parts.append(f'<path class="edge" d="M{EDGE} {EDGE}{steps}V{EDGE + t * cell}"/></svg>')
    return Markup("\n".join(parts))


def _cell(x: int, y: int, size: int, value: float | None, later: bool, low: int, high: int) -> str:
    box = f'<rect x="{x}" y="{y}" width="{size}" height="{size}"'
    if not value:
        kind, mark = ("odd", "?") if value is None else ("none", "0")
        style = f"font-size:{min(13, 0.7 * size):.0f}px"
        return (
            f'{box} class="{kind}"/>{_text(x + size / 2, y + size / 2 + min(4, size / 4), mark, style=style)}'
        )
    shade = MIN_OPACITY + (1 - MIN_OPACITY) * log_position(value, low, high)
    return f'{box} class="{"later" if later else "past"}" fill-opacity="{shade:.2f}"/>'


def _shades(matrix: Matrix, cell: int, n: int, low: int, high: int) -> list[str]:
    """All cells of one shade as one path, since a large matrix has thousands of cells; zeros are dots."""
    found: dict[str, list[str]] = {}
    for o, row in enumerate(matrix):
        for i, value in enumerate(row):
            x, y = EDGE + i * cell, EDGE + o * cell
            if value == 0:
                middle = f"M{x + cell / 2:g} {y + cell / 2:g}h.01"
                found.setdefault('class="dot"', []).append(middle)
                continue
            shade = 1.0 if value is None else MIN_OPACITY + (1 - MIN_OPACITY) * log_position(value, low, high)
            kind = "odd" if value is None else "later" if i // n > o // n else "past"
            look = f'class="{kind}" fill-opacity="{shade:.2f}"'
            found.setdefault(look, []).append(f"M{x} {y}h{cell}v{cell}h-{cell}z")
    return [f'<path {look} d="{"".join(cells)}"/>' for look, cells in found.items()]


def _amount(value: float | None) -> str:
    return "by no finite number" if value is None else f"by {value:.2g}" if value else "not at all"


def draw_scale(both: list[Matrix]) -> Markup:
    """Draw what the shades of `draw_matrix` mean."""
    low, high = decades(both)
    parts = ['<svg viewBox="0 0 320 52" class="scale" aria-hidden="true">']
    for step in range(40):
        shade = MIN_OPACITY + (1 - MIN_OPACITY) * (step + 0.5) / 40
        for y, kind in ((2, "past"), (16, "later")):
            parts.append(
                f'<rect x="{20 + 7 * step}" y="{y}" width="7.2" height="14" class="{kind}" fill-opacity="{shade:.2f}"/>'
            )
    powers = range(low, high + 1, math.ceil((high - low) / 5))
    parts += [_text(20 + 280 * (power - low) / (high - low), 46, f"{10.0**power:g}") for power in powers]
    return Markup("\n".join([*parts, "</svg>"]))


def draw_lines(rows: list[list[float | None]], label: str) -> Markup:
    """Draw one line for each row over its frames, from 0 up; each row has its own dashes.

    Args:
        rows: Numbers by frame; None where they are not finite.
        label: A description for screen readers.
    """
    left, bottom, width, height = 44, 190, 300, 170
    top = round_up(max([v for row in rows for v in row if v is not None], default=0.0))
    t = max(len(row) for row in rows)
    parts = [f'<svg viewBox="0 0 360 240" role="img" aria-label="{label}" style="max-width:560px">']
    for step in range(5):
        y = bottom - height * step / 4
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{left + width}"/>')
        parts.append(_text(left - 6, y + 4, f"{top * step / 4:.2g}", "end"))
    for frame in range(0, t, math.ceil(t / 10)):
        parts.append(_text(left + width * frame / max(t - 1, 1), bottom + 18, frame))
    parts.append(_text(left + width / 2, bottom + 38, "frame"))
    for number, row in enumerate(rows):
        points = [
            f"{left + width * frame / max(t - 1, 1):.1f},{bottom - height * value / top:.1f}"
            for frame, value in enumerate(row)
            if value is not None
        ]
        parts.append(f'<polyline class="line line{number % 4}" points="{" ".join(points)}"/>')
    return Markup("\n".join([*parts, "</svg>"]))


def draw_line_sample(number: int) -> Markup:
    """Draw the line of a row, for the legend."""
    return Markup(
        f'<svg viewBox="0 0 36 8" class="sample" aria-hidden="true"><path class="line line{number % 4}" d="M1 4H35"/></svg>'
    )


def round_up(value: float) -> float:
    """Return the next of 1, 2, 4, 5, 8 and 10 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-12))


def _text(x: float, y: float, content: object, anchor: str = "middle", style: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{styled}>{content}</text>'
