"""The model card (README.md) of a converted folder."""

import re
from pathlib import Path
from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.escape import markdown, markdown_code
from v2w_convert.new_file import write_text
from v2w_convert.surgery.manifest import Manifest

CARD = "README.md"
MAX_NUMBER = 10**15
MAX_VALUE = 200  # characters of a value of the training's
MAX_RUNS = 8  # that are shown, of those that follow one another
MAX_CARD_BYTES = 1_000_000  # bytes
BEGIN, END = "<!-- v2w verify -->", "<!-- end of v2w verify -->"
UNVERIFIED = (
    "Not verified yet. `v2w verify OUT --base BASE --card`, where OUT is this folder and BASE its base, measures every\n"
    "claim on these weights and writes the result here.\n"
)


def card_text(manifest: Manifest) -> str:
    """The card as Markdown, with the metadata header that model hubs read."""
    plan = manifest.plan
    base = manifest.source["name"]
    fates = list(manifest.all_tensors.values())
    counts = ", ".join(f"{fates.count(fate)} {fate}" for fate in ("kept", "transferred", "added"))
    operations = [
        f"- {markdown_code(name)} at {markdown_code(str(fields['at']))}{_options(fields)}"
        for op in plan["operations"]
        for name, fields in op.items()
    ]
    runs = _runs(manifest.finetuning)
    imported = manifest.stage == "finetuned" and manifest.finetuning is None
    stage = (
        "It came with trained actions, which were kept."
        if imported
        else "It is **converted, not yet finetuned**: actions have no effect yet, and image quality suffers from the missing future frames."
        if manifest.finetuning is None
        else _trained_for(runs)
    )
    ignoring = [part.component for part in manifest.experts.values() if part.stage == "converted"]
    untrained = (
        f" {markdown_code(ignoring[0])} has not been finetuned and ignores actions."
        if manifest.finetuning and ignoring
        else ""
    )
    experts = (
        ""
        if manifest.boundary is None
        else f"""
It has two denoisers, of which each is asked in its range of noise levels: {markdown_code(manifest.component)} from timestep
{manifest.boundary:g} N on, {markdown_code(manifest.experts["low"].component)} below it, of N training timesteps.{untrained}
"""
    )
    return f"""---
library_name: v2w-convert
base_model_relation: finetune
tags: [world-model, video]
---

# World model converted from {markdown(base)}

A causal, action-conditioned video denoiser: frame t is predicted from frames up to t and the action that led to it
({manifest.action_dim} numbers). {stage}
{experts}
```python
import v2w_convert
world = v2w_convert.load("this folder")
```

diffusers alone would load the same files as a bidirectional video model, which they no longer are.

Made by v2w {markdown(manifest.version)} with the plan {markdown_code(plan["name"])} ([Vid2World](https://arxiv.org/abs/2505.14357)); tensors of the
base: {counts}. `v2w.json` has the full record.

{chr(10).join(operations)}

{_training(runs)}{_section(UNVERIFIED)}"""


TRAINED = {
    "Data": ("data", "name"),
    "Validation data": ("validation", "name"),
    "Steps": ("steps",),
    "Clips a step": ("settings", "batch"),
    "Latent frames a clip": ("settings", "frames"),
    "Trained": ("settings", "train"),
    "Learning rate": ("settings", "lr"),
    "Its schedule": ("settings", "lr_scheduler"),
    "Noise levels": ("objective", "levels"),
    "Loss weight": ("objective", "loss_weight"),
    "Clips with a clean history": ("objective", "clean_history"),
    "Clips with a history of the model's own": ("objective", "self_history"),
    "Clips distilled from several denoising steps": ("objective", "consistency"),
    "Actions dropped": ("settings", "action_dropout"),
    "Loss, last 100 steps": ("loss",),
    "Validation loss before": ("validation_loss", "first"),
    "Validation loss after": ("validation_loss", "last"),
}
"""What the card says of finetuning, and where the manifest has it."""


def _runs(finetuning: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The records of this run and those that it continues, the first one first; the last `MAX_RUNS` of them."""
    runs: list[dict[str, Any]] = []
    while isinstance(finetuning, dict) and len(runs) < MAX_RUNS:
        runs.insert(0, finetuning)
        finetuning = finetuning.get("before")
    return runs


def _trained_for(runs: list[dict[str, Any]]) -> str:
    steps = [markdown(str(run.get("steps"))) for run in runs]
    earlier = f", after {' and '.join(steps[:-1])} of the runs before" if steps[:-1] else ""
    return f"It was finetuned on action data for {steps[-1]} steps{earlier}."


def _training(runs: list[dict[str, Any]]) -> str:
    """The section on finetuning, with a column for each run; empty where there was none."""
    rows = []
    for label, keys in TRAINED.items():
        values = [_value(run, keys) for run in runs]
        if any(values):
            rows.append(f"| {label} | {' | '.join(values)} |")
    if not rows:
        return ""
    names = [f" run {number} " for number, _ in enumerate(runs, 1)] if len(runs) > 1 else [" "]
    head = f"| |{'|'.join(names)}|\n|---|{'---|' * len(runs)}\n"
    return "## Training\n\n" + head + "\n".join(rows) + "\n\n![Loss by step, of the last run](loss.png)\n\n"


def _value(run: dict[str, Any], keys: tuple[str, ...]) -> str:
    value: Any = run
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, str):
        return markdown(value[:MAX_VALUE])
    if isinstance(value, int | float) and abs(value) < MAX_NUMBER:
        return str(value) if isinstance(value, int) else format(value, ".4g")
    return ""


def read_card(folder: Path, manifest: Manifest) -> str:
    """The current card of a converted folder, or a new one where there is none.

    Raises:
        V2WError: If it cannot be read.
    """
    file = folder / CARD
    if not file.exists():
        return card_text(manifest)
    asked = f"write the verification summary into {file}"
    if not file.is_file() or file.stat().st_size > MAX_CARD_BYTES:
        raise V2WError(
            asked, "it is not a text file of ordinary size", "move it away: a new one is then written"
        )
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise V2WError(asked, str(error), "move it away: a new one is then written") from None


def write_card(folder: Path, text: str, summary: str) -> None:
    """Replace the card, whole or not at all, by `text` with `summary` (Markdown) in the place of what was measured before.

    Raises:
        V2WError: If the disk fails.
    """
    section = _section(summary)
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END) + "\n?", re.DOTALL)
    text = (
        pattern.sub(lambda _: section, text, count=1)
        if pattern.search(text)
        else f"{text.rstrip()}\n\n{section}"
    )
    write_text(folder / CARD, text, replace=True)


def _section(text: str) -> str:
    return f"{BEGIN}\n## Verification\n\n{text.rstrip()}\n{END}\n"


def _options(fields: dict[str, Any]) -> str:
    shown = {key: value for key, value in fields.items() if key != "at" and value not in (None, False)}
    options = [f"{key} {value}" for key, value in shown.items() if not isinstance(value, dict)]
    options += [key for key, value in shown.items() if isinstance(value, dict)]
    return f": {markdown(', '.join(options))}" if options else ""
