"""world.html: how far `make world` is, in one file without a network: curves, contact sheets, figures."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment

from examples.doom.pipeline.stages import Job, Stage, read_record
from examples.doom.pipeline.training import read_log
from v2w_convert.finetuning.loss_curve import draw_curves
from v2w_convert.new_file import write_text

TEMPLATE = Path(__file__).with_name("page.html")
FIRST_SHOWN = 0.02  # share of a training that is left out of its curves, where the loss falls from its height


def write_page(stages: list[Stage], job: Job) -> None:
    """Write `world.html` into the output folder."""
    shown = [_stage(stage, job) for stage in stages]
    page = Environment(autoescape=True).from_string(TEMPLATE.read_text("utf-8"))
    finished = all(stage["state"] == "finished" for stage in shown)
    text = page.render(stages=shown, finished=finished, target=job.recipe.record.target.scenario)
    write_text(job.output / "world.html", text, replace=True)


def _stage(stage: Stage, job: Job) -> dict[str, Any]:
    """What the page says of a stage."""
    folder = job.folder(stage.name)
    record, log = read_record(folder), read_log(folder)
    figures = record.get("figures")
    state = "not begun" if not record else "under way" if figures is None else "finished"
    course = getattr(getattr(job.recipe, stage.name), "course", None)
    return {
        "name": stage.name,
        "title": stage.title,
        "state": state,
        "step": log[-1]["step"] if log else 0,
        "steps": course.steps if course else None,
        "hours": log[-1]["hours"] if log else None,
        "figures": _table(figures) if figures else [],
        "curves": [_curve(title, curves) for title, curves in _curves(log)],
        "sheets": [
            (file.stem, _embedded(file.read_bytes())) for file in sorted(folder.glob("*.png")) if record
        ],
    }


def _table(figures: dict[str, Any]) -> list[list[Any]]:
    """Figures as rows, the first of which names the columns; a row for each name, a column for each name within."""
    rows = {name: dict(_leaves(value)) for name, value in figures.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return [["", *columns], *([name, *(row.get(c, "") for c in columns)] for name, row in rows.items())]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is nested, with all names on the way."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{name} {key}".strip())
    else:
        yield name, value


def _curves(log: list[dict[str, Any]]) -> list[tuple[str, dict[str, list[tuple[float, float]]]]]:
    """Titles and curves: the loss, and what was measured on held-out recordings."""
    least = FIRST_SHOWN * log[-1]["step"] if log else 0
    losses = [(line["step"], line["loss"]) for line in log if "loss" in line and line["step"] >= least]
    measured: dict[str, list[tuple[float, float]]] = {}
    for line in log:
        for name, value in line.get("validation", {}).items():
            measured.setdefault(name, []).append((line["step"], value))
    found = [("loss (means of some steps)", {"training": losses})] if losses else []
    return found + ([("held-out recordings", measured)] if measured else [])


def _curve(title: str, curves: dict[str, list[tuple[float, float]]]) -> tuple[str, str]:
    picture = io.BytesIO()
    draw_curves(curves, title, picture)
    return title, _embedded(picture.getvalue())


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
