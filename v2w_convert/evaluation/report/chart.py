"""A chart of lines as SVG, which takes its colours from the page's style sheet. Its text is numbers."""

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 10, 26
TICKS = 5


def draw_lines(x: Sequence[float], lines: Sequence[Sequence[float]], label: str) -> Markup:
    """Draw each of `lines` over `x`.

    Args:
        x: Increasing.
        lines: As many values as `x` each, finite.
        label: A description for screen readers: fixed words.
    """
    values = [value for line in lines for value in line]
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    first, last = x[0], x[-1]

    def at(a: float, b: float) -> tuple[float, float]:
        across = (a - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)
        up = (b - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    for tick in ticks:
        _, y = at(first, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for i in range(0, len(x), math.ceil(len(x) / 10)):
        a, _ = at(x[i], low)
        parts.append(f'<text x="{a}" y="{HEIGHT - 8}" text-anchor="middle">{x[i]:g}</text>')
    for number, line in enumerate(lines):
        points = " ".join(f"{a},{b}" for a, b in map(at, x, line))
        parts.append(f'<polyline class="line line{number}" points="{points}"/>')
    return Markup("".join([*parts, "</svg>"]))


def draw_sample(number: int) -> Markup:
    """A short piece of line `number`, for the legend."""
    return Markup(
        f'<svg class="sample" viewBox="0 0 36 10" aria-hidden="true">'
        f'<polyline class="line line{number}" points="0,5 36,5"/></svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that include `low` and `high`."""
    span = (high - low) or abs(high) or 1.0
    size = 10 ** math.floor(math.log10(span / TICKS))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * TICKS >= span)
    begin, end = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(begin, max(end, begin + 1) + 1)]
