"""Write a report: a page, its data, its pictures, and a summary."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from v2w_convert.new_file import new_file
from v2w_convert.verification.report.distance_png import draw_distance
from v2w_convert.verification.report.influence_png import draw_influence
from v2w_convert.verification.report.page import page
from v2w_convert.verification.report.summary import summary

Picture = np.ndarray[Any, Any]
NO_FIGURES = {"influence": None, "distance": None}


def publish(result: dict[str, Any], folder: Path) -> None:
    """Write a report into a folder that exists. Files of an earlier report that this one does not have are removed.

    report.json     all of it; `docs/schemas/verify.schema.json` describes it
    report.html     one self-contained page for a reader who does not know v2w
    summary.md      a verdict and a handful of figures, for a model card
    influence.png   which output frame depends on which input frame, if that was measured
    distance.png    how far each frame, and each site alone, is from the base's, if that was measured

    Of a model with two denoisers these are the high-noise one's, and low-noise-….png the other one's.

    Args:
        result: `VerifyReport.as_json`.
        folder: Where to write.
    """
    texts = {
        "report.json": json.dumps(result, indent=1, allow_nan=False) + "\n",
        "report.html": page(result),
        "summary.md": summary(result),
    }
    frames_per_block = result["model"]["frames_per_block"]
    pictures = _pictures(result["figures"], frames_per_block)
    low = result["figures"].get("low_noise", NO_FIGURES)
    pictures |= {f"low-noise-{name}": picture for name, picture in _pictures(low, frames_per_block).items()}
    with ExitStack() as written:  # where one cannot be written, none is replaced
        for name, text in texts.items():
            written.enter_context(new_file(folder / name, replace=True)).write_text(text, encoding="utf-8")
        for name, picture in pictures.items():
            if picture is not None:
                file = written.enter_context(new_file(folder / name, replace=True))
                Image.fromarray(picture).save(file, format="PNG", optimize=True)
    for name, picture in pictures.items():
        if picture is None:
            (folder / name).unlink(missing_ok=True)


def _pictures(figures: dict[str, Any], frames_per_block: int) -> dict[str, Picture | None]:
    """The pictures of one denoiser's figures; None for those that were not measured."""
    influence, distance = figures["influence"], figures["distance"]
    return {
        "influence.png": None
        if influence is None
        else draw_influence(influence["base"], influence["world"], frames_per_block),
        "distance.png": None if distance is None else draw_distance(distance),
    }
