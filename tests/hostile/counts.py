"""The table of docs/hostile-input.md that says how many generated cases were tried: tests check their own rows."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "hostile-input.md"


def documented(kind: str) -> tuple[int, int]:
    """How many cases of a kind were tried, and how many of them were violations, as the page says."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == kind and len(cells) == 3:
            return int(cells[1].replace(",", "")), int(cells[2].replace(",", ""))
    raise AssertionError(f"{PAGE.name} has no row for {kind!r}")
