"""Drawings of a report's page, as SVG that takes its colours from the page's style sheet. Only numbers come in."""

import math
from collections.abc import Iterable

from markupsafe import Markup

from v2w_convert.verify.picture import Matrix, decades, share

CELL, EDGE = 40, 44  # units of the drawing
FAINTEST = 0.16  # opacity of the least influence, which must still be told from none


def blocks_of(matrix: Matrix, n: int) -> Matrix:
    """The largest influences between blocks of n frames."""
    places = range(0, len(matrix), n)
    return [
        [_largest(v for row in matrix[o : o + n] for v in row[i : i + n]) for i in places] for o in places
    ]


def _largest(values: Iterable[float | None]) -> float | None:
    found = list(values)
    return None if None in found else max(v for v in found if v is not None)


def matrix_drawing(matrix: Matrix, both: list[Matrix], n: int, unit: str, label: str) -> Markup:
    """Which output frame (row) depends on which input frame (column).

    both   all matrices that share one scale
    n      frames to a block, which may see each other
    unit   what a row is: `frame`, or `block`
    label  what it shows, for those who do not see it
    """
    low, high = decades(both)
    t = len(matrix)
    size = EDGE + t * CELL
    parts = [
        f'<svg viewBox="0 0 {size + 6} {size + 6}" role="img" aria-label="{label}" style="max-width:{size + 6}px">',
        _text(EDGE + t * CELL / 2, 12, f"input {unit} that is replaced →"),
        f'<g transform="rotate(-90 12 {EDGE + t * CELL / 2})">'
        + _text(12, EDGE + t * CELL / 2 + 4, f"← output {unit}")
        + "</g>",
    ]
    for o, row in enumerate(matrix):
        parts.append(_text(EDGE - 10, EDGE + (o + 0.5) * CELL + 4, o))
        parts.append(_text(EDGE + (o + 0.5) * CELL, EDGE - 8, o))
        parts += [_cell(o, i, value, i // n > o // n, low, high, unit) for i, value in enumerate(row)]
    steps = "".join(f"V{EDGE + o * CELL}H{EDGE + min(o + n, t) * CELL}" for o in range(0, t, n))
    return Markup(
        "\n".join([*parts, f'<path class="edge" d="M{EDGE} {EDGE}{steps}V{EDGE + t * CELL}"/>', "</svg>"])
    )


def _cell(o: int, i: int, value: float | None, later: bool, low: int, high: int, unit: str) -> str:
    x, y = EDGE + i * CELL, EDGE + o * CELL
    box = f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}"'
    told = "by no finite number" if value is None else f"by {value:.2g}" if value else "by nothing at all"
    title = f"<title>output {unit} {o} changes {told} when input {unit} {i} is replaced</title>"
    if value is None:
        return f'<g>{title}{box} class="odd"/>{_text(x + CELL / 2, y + CELL / 2 + 4, "?")}</g>'
    if value == 0:
        return f'<g>{title}{box} class="none"/>{_text(x + CELL / 2, y + CELL / 2 + 4, 0)}</g>'
    shade = FAINTEST + (1 - FAINTEST) * share(value, low, high)
    kind = "later" if later else "past"
    return f'<g>{title}{box} class="none"/>{box} class="{kind}" fill-opacity="{shade:.2f}"/></g>'


def scale_drawing(both: list[Matrix]) -> Markup:
    """What the shades of `matrix_drawing` mean."""
    low, high = decades(both)
    parts = ['<svg viewBox="0 0 320 52" class="scale" aria-hidden="true">']
    for step in range(40):
        shade = FAINTEST + (1 - FAINTEST) * (step + 0.5) / 40
        for y, kind in ((2, "past"), (16, "later")):
            parts.append(
                f'<rect x="{20 + 7 * step}" y="{y}" width="7.2" height="14" class="{kind}" fill-opacity="{shade:.2f}"/>'
            )
    powers = range(low, high + 1, math.ceil((high - low) / 5))
    parts += [_text(20 + 280 * (power - low) / (high - low), 46, f"{10.0**power:g}") for power in powers]
    return Markup("\n".join([*parts, "</svg>"]))


def lines_drawing(rows: list[list[float | None]], label: str) -> Markup:
    """One line for each row over its frames, from 0 up; the later the row, the more broken its line."""
    left, bottom, width, height = 44, 190, 300, 170
    top = max([v for row in rows for v in row if v is not None], default=0.0) or 1.0
    top = _round_up(top)
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


def line_sample(number: int) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 36 8" class="sample" aria-hidden="true"><path class="line line{number % 4}" d="M1 4H35"/></svg>'
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 8 and 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-12))


def _text(x: float, y: float, words: object, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
