"""The stages from a base to a world that ships: what a user would type, each with figures of its own."""

import shutil
from pathlib import Path
from typing import Any

from examples.doom.pipeline.card import base_card
from examples.doom.pipeline.commands import v2w
from examples.doom.pipeline.decoder import fit
from examples.doom.pipeline.long_walks import write_long_walks
from examples.doom.pipeline.recipe import Command
from examples.doom.pipeline.record import NAMES, SEEDS, record
from examples.doom.pipeline.stages import Figures, Job
from v2w_convert.errors import V2WError
from v2w_convert.new_file import write_text
from v2w_convert.strict_json import read_object

MB = 1e6
MANY_STEPS = 10  # of denoising, which few are compared with
LEFT = (
    "latents",
    "checkpoints",
    ".lock",
    "config.yaml",
    "run.json",
)  # of a run: what goes on with it, and where its data lay
LONG = 200  # frames of a long rollout, where the recipe does not say


def target(job: Job, use: str) -> Path:
    """The target's recording for a use: train, validation, test."""
    return job.folder("record") / f"target/{use}-0"


def run_convert(job: Job) -> Figures:
    """The stage: `converted/`, and `verify/`, the report on every claim."""
    folder, base = job.folder("convert"), job.folder("base") / "pipeline"
    converted, report = folder / "converted", folder / "verify"
    if not converted.exists():
        v2w("convert", base, "-o", converted, "--action-dim", len(NAMES), *job.recipe.convert.words())
    v2w("verify", converted, "--base", base, "-o", report, "--clips", target(job, "test"))
    claims = [
        claim for claim in read_object(report / "report.json")["claims"] if claim["measured"] is not None
    ]
    return {"claims": {"measured": len(claims), "hold": sum(claim["ok"] for claim in claims)}}


def run_finetune(job: Job) -> Figures:
    """The stage: `world/`, finetuned on the target, and `loss.png`."""
    return finetune(job, "finetune", job.folder("convert") / "converted", job.recipe.finetune)


def run_train_on(job: Job) -> Figures:
    """The stage: `world/`, trained on at a lower rate, and `loss.png`."""
    return finetune(job, "train_on", job.folder("finetune") / "world", job.recipe.train_on)


def finetune(job: Job, stage: str, model: Path, command: Command) -> Figures:
    """Finetune `model` on the target into the stage's `world/`."""
    folder = job.folder(stage)
    world = folder / "world"
    data = ("--data", target(job, "train"), "--validation", target(job, "validation"))
    v2w("finetune", model, *data, "-o", world, *command.words(), "--device", job.device)
    shutil.copyfile(world / "loss.png", folder / "loss.png")
    record = read_object(world / "v2w.json")["finetuning"]
    return {"steps": record["steps"], "validation_loss": record["validation_loss"]}


def run_decoder(job: Job) -> Figures:
    """The stage: `world/`, whose decoder is fitted to how the target looks."""
    folder = job.folder("decoder")
    world = folder / "world"
    if not world.exists():
        copying = folder / "copying"
        shutil.rmtree(copying, ignore_errors=True)
        shutil.copytree(
            job.folder("train_on") / "world",
            copying,
            ignore=shutil.ignore_patterns(*LEFT),
        )
        copying.rename(world)
    data, validation = ([target(job, use)] for use in ("train", "validation"))
    return fit(world, data, validation, job.recipe.decoder.course, job.device)


def run_evaluate(job: Job) -> Figures:
    """The stage: `report/`, a page of every figure on recordings that nothing has seen; `many-steps/`, the same with more
    denoising steps, without long rollouts; `long_walks.png`, frames of long rollouts.
    """
    folder, world = job.folder("evaluate"), job.folder("decoder") / "world"
    shown = folder / "train"  # what ships of the training data, so that whoever has it gets the same figures
    if not shown.exists():  # the same seed: the first episodes of what it was trained on
        record(job.recipe.record.target.scenario, SEEDS["train"], job.recipe.ship.train, shown)
    data = ("--data", target(job, "test"), "--classifier-data", shown)
    many = ("--steps", MANY_STEPS, "--long-frames", 0)
    for name, more in (("report", ()), ("many-steps", many)):
        if not (folder / name).exists():
            flags = (*job.recipe.evaluate.words(), *more, "--device", job.device)
            v2w("evaluate", world, *data, "-o", folder / name, *flags)
    given = job.recipe.evaluate.flags
    steps, frames = (int(str(given[name])) if name in given else None for name in ("steps", "long-frames"))
    walks = folder / "long_walks.png"
    write_long_walks(world, target(job, "test"), walks, frames or LONG, steps=steps, device=str(job.device))
    return {name: summary(read_object(folder / name / "figures.json")) for name in ("report", "many-steps")}


def summary(found: dict[str, Any]) -> Figures:
    """What is looked at first, of what `v2w evaluate` says: PSNR above copying and the price of other actions, by horizon."""
    copied, gaps = found["baselines"]["last_frame_copied"], found["actions"]["psnr_gap"]
    figures: Figures = {
        f"{ahead} ahead": {
            "psnr_db": round(at["psnr"]["mean"], 2),
            "above_copying_db": round(at["psnr"]["mean"] - copied[ahead]["psnr"]["mean"], 2),
            "true_minus_other_actions_db": round(gaps[ahead]["mean"], 2) if ahead in gaps else None,
        }
        for ahead, at in found["horizons"].items()
    }
    return figures


def run_ship(job: Job) -> Figures:
    """The stage: `base/`, `world/`, `data/`, as examples/doom has them.

    Raises:
        V2WError: They take more than they may.
    """
    folder, settings = job.folder("ship"), job.recipe.ship
    copies = {
        job.folder("base") / "pipeline": folder / "base",
        job.folder("decoder") / "world": folder / "world",
        target(job, "test"): folder / "data/test",
        job.folder("evaluate") / "train": folder / "data/train",
    }
    for source, copy in copies.items():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
    write_text(folder / "base/README.md", base_card(job), replace=True)
    sizes = {
        name: sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file()) / MB
        for name in ("base", "world", "data")
    }
    if (total := sum(sizes.values())) > settings.megabytes:
        raise V2WError(
            f"ship {folder}",
            f"it takes {total:.0f} MB",
            f"a smaller model, or more than {settings.megabytes} MB",
        )
    return {"megabytes": {name: round(size, 1) for name, size in sizes.items()}}
