"""The page of an evaluation, self-contained: `page.html`, filled in. Names come from files: everything is escaped."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from v2w_convert.escape import html
from v2w_convert.evaluation.report.chart import draw_lines, draw_sample
from v2w_convert.evaluation.report.findings import findings
from v2w_convert.evaluation.result import EvaluateResult
from v2w_convert.evaluation.tables import NAMES, tables

TEMPLATE = Path(__file__).with_name("page.html")


def page(result: EvaluateResult, videos: dict[str, bytes]) -> str:
    """Return HTML. It loads nothing: videos are part of it, and there is no script.

    Args:
        result: The figures.
        videos: Title and MP4 of each clip to show.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        result=result,
        findings=findings(result),
        tables=tables(result),
        videos=[(title, _as_url(video)) for title, video in videos.items()],
        curves=_curves(result),
        drift=_drift(result),
    )


def _curves(result: EvaluateResult) -> dict[str, Any]:
    curves = {name: result.psnr_curves[name] for name in NAMES}
    frames = list(range(1, len(curves["generated"]) + 1))
    return {
        "drawing": draw_lines(frames, list(curves.values()), "PSNR of each frame after the history"),
        "legend": [(draw_sample(i), shown) for i, shown in enumerate(NAMES.values())],
    }


def _drift(result: EvaluateResult) -> dict[str, Any] | None:
    if result.long_horizon is None:
        return None
    stretches = result.long_horizon.drift
    lines = [[x.within_round_tripped.mean for x in stretches], [x.detail.mean for x in stretches]]
    names = ["share of frames within the range of round-tripped ones", "detail, of round-tripped frames"]
    for part in stretches[0].inverse_dynamics:
        if all(part in x.inverse_dynamics for x in stretches) and len(lines) < 4:
            lines.append([x.inverse_dynamics[part] for x in stretches])
            names.append(f"{part} read from two frames")
    return {
        "drawing": draw_lines([x.last for x in stretches], lines, "Figures along the long rollouts"),
        "legend": [(draw_sample(i), name) for i, name in enumerate(names)],
    }


def _as_url(video: bytes) -> Markup:
    return Markup(f"data:video/mp4;base64,{base64.b64encode(video).decode()}")


def _finalize(value: Any) -> Any:
    """What the template shows, escaped; what was escaped before, or is the page's own, is `Markup`."""
    return value if isinstance(value, Markup) else Markup(html(str(value)))
