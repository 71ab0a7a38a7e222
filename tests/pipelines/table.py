"""Write docs/pipelines.md and docs/pipelines.json: `python -m tests.pipelines.table`, half a minute. Tests check both.

With `--text` the figures in pipelines.json are kept and only pipelines.md is written.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.pipelines.compared import TOLERANCE, Figures, compare
from tests.pipelines.release import Release
from tests.pipelines.releases import RELEASES

DOCS = Path(__file__).parents[2] / "docs"
FILE, MEASURED = DOCS / "pipelines.md", DOCS / "pipelines.json"
COLUMNS = ("told", "input", "output", "next_latents")
HEAD = f"""# Beside the families' own pipelines

Written by `python -m tests.pipelines.table`; tests check every line. `docs/pipelines.json` has the figures.

For every release, diffusers' own pipeline runs a tiny denoiser of its class, of the plan's tiny configuration with the
release's structure and randomly initialised, with the release's own scheduler, and every call of the denoiser is recorded. The
same denoiser, converted and in bidirectional form, is given the same latents, prompt and picture. Compared are, over all steps
of a run, the largest difference over the largest value, in float32:

- *told*: the number that the denoiser receives for the noise level;
- *input*: every other argument of the denoiser, one by one, those that a family's function makes of a picture included;
- *output*: what the denoiser returns;
- *next latents*: what the solver makes of that, multistep solvers included.

At most {TOLERANCE:.0e} is allowed; what the denoiser is told is the same number. Guidance is off: it would call the denoiser twice with the
same arguments but the prompt. A picture's latent is the autoencoder's mean, where pipelines draw one at random.

| plan | release | pipeline | told | input | output | next latents |
|---|---|---|---|---|---|---|
"""
TAIL = """
## Where the facts are from

| release | scheduler | source |
|---|---|---|
"""


def row(release: Release, figures: dict[str, Any]) -> str:
    """One release's line of the first table."""
    pipeline = f"`{release.index['_class_name']}`" if release.index else "none"
    front = f"| `{release.plan}` | {release.name} | {pipeline} |"
    if release.not_compared is not None:
        return f"{front} not compared: {release.not_compared} | | | |"
    cells = [figure(release, key, figures[key]) for key in COLUMNS]
    return f"{front} {' | '.join(cells)} |"


def figure(release: Release, key: str, value: float | None) -> str:
    """One cell."""
    if value is None:
        return f"not compared: {release.next_not_compared}"
    said = f"{value:.0e}" if value else "0"
    if key == "output" and release.rounds is not None:
        said += f" (in float64: the denoiser rounds {release.rounds})"
    return said


def source(release: Release) -> str:
    """One release's line of the second table."""
    scheduler = f"`{release.scheduler['_class_name']}`" if release.scheduler else "the plan's"
    return f"| {release.name} | {scheduler} | {release.source} |"


def text(measured: dict[str, dict[str, Any]]) -> str:
    """The page."""
    rows = [row(release, measured.get(name, {})) for name, release in RELEASES.items()]
    return HEAD + "\n".join(rows) + "\n" + TAIL + "\n".join(map(source, RELEASES.values())) + "\n"


def measured() -> dict[str, dict[str, Any]]:
    """The figures of pipelines.json, by release."""
    releases: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text("utf-8"))["releases"]
    return releases


def as_json(figures: Figures) -> dict[str, Any]:
    """Two digits say how large a difference is."""

    def short(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.1e}")

    return {
        **{key: short(getattr(figures, key)) for key in COLUMNS},
        "arguments": {name: short(value) for name, value in figures.by_argument.items()},
    }


def main() -> None:
    torch.set_num_threads(1)
    if "--text" not in sys.argv:
        found = {}
        for name, release in RELEASES.items():
            print(name, flush=True)
            if release.not_compared is None:
                found[name] = as_json(compare(release))
            else:
                found[name] = {"not_compared": release.not_compared}
        MEASURED.write_text(json.dumps({"releases": found}, indent=1) + "\n", "utf-8")
    FILE.write_text(text(measured()), "utf-8")


if __name__ == "__main__":
    main()
