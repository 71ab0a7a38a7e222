"""The report's page, self-contained, for a reader who does not know v2w: `page.html`, filled in.

Names come from files: everything that the template shows is escaped.
"""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from v2w_convert.escape import html
from v2w_convert.text import fold_paths
from v2w_convert.verification.report import svg
from v2w_convert.verification.report.wording import (
    TOPICS,
    count,
    figures_of,
    group_failures,
    heading,
    number,
    of_expert,
    rank,
    readable,
    reason,
    state,
    verdict,
)

TEMPLATE = Path(__file__).with_name("page.html")
MAX_MODULES = 300  # that are listed one by one
MAX_NAMES = 6  # under a claim; the others are folded away


def page(result: dict[str, Any]) -> str:
    """Return HTML of `result` (`VerifyReport.as_json`). It loads nothing: no script, no font, no picture."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    claims, figures = result["claims"], result["figures"]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        result=result,
        model=result["model"],
        run=result["run"],
        verdict=verdict(claims),
        counts={
            name: [state(c) for c in claims].count(name)
            for name in ("holds", "fails", "figure", "not measured")
        },
        # Of two denoisers' claims the one that fails, or else that was not measured, counts.
        by_id={
            claim["id"]: claim for claim in sorted(claims, key=lambda c: (not c["ok"], c["measured"] is None))
        },
        failures=group_failures(claims),
        skipped=_grouped([claim for claim in claims if state(claim) == "not measured"]),
        invariants=[
            _invariant(claim)
            for claim in claims
            if claim["id"] == "invariants" and state(claim) != "not measured"
        ],
        topics=_by_topic(claims),
        parts=[
            _part(expert, own, result["model"]["frames_per_block"])
            for expert, own in figures_of(figures).items()
        ],
        number=number,
        readable=readable,
        state=state,
        count=count,
        split_names=_split_names,
        max_modules=MAX_MODULES,
    )


def _part(expert: str, figures: dict[str, Any], frames_per_block: int) -> dict[str, Any]:
    """The figures of one denoiser."""
    return {
        "id": f"-{expert}" if expert else "",
        "of": of_expert(expert),
        "influence": _influence(figures["influence"], frames_per_block),
        "leak": _leak(figures["leak"]),
        "distance": _distance(figures["distance"]),
    }


def _finalize(value: Any) -> Any:
    """What the template shows, escaped; what was escaped before, or is the page's own, is `Markup`."""
    return value if isinstance(value, Markup) else Markup(html(str(value)))


def _by_topic(claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Topics in the order of TOPICS, failing claims first; invariants have a table of their own."""
    measured = [claim for claim in claims if state(claim) != "not measured" and claim["id"] != "invariants"]
    measured.sort(key=lambda claim: (rank(claim), claim["ok"]))
    return [
        {
            "id": topic,
            "heading": heading(topic),
            "intro": TOPICS.get(topic, ("", ""))[1],
            "claims": list(group),
        }
        for (_, topic), group in groupby(measured, rank)
    ]


def _grouped(claims: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Sentences of claims that were not measured, by the reason."""
    reasons: dict[str, list[str]] = {}
    for claim in claims:
        reasons.setdefault(reason(claim), []).append(claim["sentence"])
    return reasons


def _invariant(claim: dict[str, Any]) -> dict[str, Any]:
    operation, _, invariant = claim["sentence"].partition(": ")
    return claim | {"operation": operation, "invariant": invariant}


def _split_names(where: str) -> tuple[list[str], list[str]]:
    """The names in `where`, those that differ in numbers only as one: the first few, and the others."""
    names = [
        name + (f" ({times}×)" if times > 1 else "")
        for name, times in fold_paths(where.split(", ")).items()
        if name
    ]
    return names[:MAX_NAMES], names[MAX_NAMES:]


def _influence(found: dict[str, Any] | None, n: int) -> dict[str, Any] | None:
    if found is None:
        return None
    matrices = {"before": found["base"], "after": found["world"]}
    matrices = {name: matrix for name, matrix in matrices.items() if matrix is not None}
    unit = "frame"
    if n > 1 and len(found["world"]) > svg.MAX_LABELLED:
        matrices = {name: svg.merge_blocks(matrix, n) for name, matrix in matrices.items()}
        n, unit = 1, "block"
    both = list(matrices.values())
    panels = []
    for name, matrix in matrices.items():
        later = [v for o, row in enumerate(matrix) for i, v in enumerate(row) if i // n > o // n]
        reached = sum(v != 0 for v in later)
        ending = f"{len(later)} pairs" + ("" if reached else ": exactly 0")
        found_text = (
            f"a later {'block' if n > 1 else unit} has an influence in {reached or 'none'} of {ending}"
        )
        title = {"before": "Before: the base", "after": "After: the world model"}[name]
        drawn = svg.draw_matrix(matrix, both, n, unit, f"{title}. {found_text}.")
        panels.append(
            {"title": title, "text": found_text, "drawing": drawn, "rows": matrix, "leaks": bool(reached)}
        )
    return {
        "panels": panels,
        "scale": svg.draw_scale(both),
        "unit": unit,
        "n": n,
        "dots": len(matrices["after"]) > svg.MAX_LABELLED,
    }


def _leak(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Rows of modules, those that leak first. Paths that differ in numbers only share a row, with the largest number."""
    if found is None or not found["world"]:
        return None
    before, after = found["base"] or {}, found["world"]
    names = list(dict.fromkeys([*before, *after]))

    def row(label: str, members: list[str]) -> dict[str, Any]:
        return {
            "label": label,
            "base": _largest([before[m] for m in members if m in before]),
            "world": _largest([after[m] for m in members if m in after]),
        }

    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", name), []).append(name)
    rows = [
        row(", ".join(fold_paths(members)), members) | {"count": len(members)} for members in groups.values()
    ]

    def order(r: dict[str, Any]) -> tuple[float, float]:
        return (-_size(r["world"]), -_size(r["base"]))

    return {
        "rows": sorted((r for r in rows if _size(r["base"]) or _size(r["world"])), key=order),
        "modules": sorted(
            (
                row(name, [name])
                for name in names
                if _size(before.get(name, 0.0)) or _size(after.get(name, 0.0))
            ),
            key=order,
        ),
        "with_base": bool(before),
        "mixing": sum(_size(v) > 0 for v in before.values()),
        "leaking": sum(_size(v) > 0 for v in after.values()),
        "measured": len(after),
        "largest": max([v for v in (*before.values(), *after.values()) if v is not None], default=0.0) or 1.0,
    }


NOTHING = "—"


def _largest(values: list[float | None]) -> float | str | None:
    """The largest; None if one is not finite; a dash if there are none."""
    if not values:
        return NOTHING
    return None if None in values else max(v for v in values if v is not None)


def _size(value: float | str | None) -> float:
    """For sorting: a value that is not finite is the largest."""
    return float("inf") if value is None else value if isinstance(value, float | int) else 0.0


def _distance(found: dict[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    rows = found["frames"]
    numbers = [v for row in rows for v in row if v is not None]
    label = f"Relative difference from the base for each frame, {min(numbers, default=0):.2g} to {max(numbers, default=0):.2g}."
    sites = sorted(found["sites"].items(), key=lambda item: -_size(item[1]))
    return {
        "clips": found["clips"],
        "drawing": svg.draw_lines(rows, label),
        "lines": [
            {"level": level, "sample": svg.draw_line_sample(index), "frames": row}
            for index, (level, row) in enumerate(zip(found["noise_levels"], rows, strict=True))
        ],
        "sites": sites[:8],
        "largest": max([v for _, v in sites if v is not None], default=0.0) or 1.0,
    }
