"""`make world`: stages in order, each finished once; a recipe; a page; the base that comes out."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNetSpatioTemporalConditionModel
from PIL import Image
from safetensors.torch import load_file

from examples.doom.pipeline.__main__ import RECIPE, STAGES
from examples.doom.pipeline.page import write_page
from examples.doom.pipeline.pictures import grid_pattern, psnr
from examples.doom.pipeline.recipe import Command, Ship, read_recipe
from examples.doom.pipeline.stages import Figures, Job, Stage, perform
from examples.doom.pipeline.world import run_ship
from tests.examples.recipes import RECIPE as TINY
from tests.examples.recipes import write_recipe, write_recordings
from v2w_convert.checkpoint.digests import file_digest
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.surgery.manifest import read_manifest

WEIGHTS = "vae/diffusion_pytorch_model.safetensors"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(read_recipe(write_recipe(tmp_path / "recipe.json")), tmp_path / "out", torch.device("cpu"))


def noted(names: list[str], fails: str = "") -> list[Stage]:
    """The pipeline's stages, which do nothing but add their name to `names`."""

    def note(name: str) -> Callable[[Job], Figures]:
        def run(job: Job) -> Figures:
            names.append(name)
            if name == fails:
                raise ConnectionError
            return {"seen": list(names)}

        return run

    return [replace(stage, run=note(stage.name)) for stage in STAGES]


def test_stages_run_in_order_and_once(job: Job) -> None:
    names: list[str] = []
    with pytest.raises(ConnectionError):
        perform(noted(names, fails="autoencoder"), job)
    perform(noted(names), job)
    perform(noted(names), job)
    after = [stage.name for stage in STAGES[2:]]
    assert names == ["record", "autoencoder", "autoencoder", *after]


def test_another_recipe_is_refused(job: Job, tmp_path: Path) -> None:
    perform(noted([])[:2], job)
    longer = {**TINY["autoencoder"], "course": {**TINY["autoencoder"]["course"], "steps": 9}}
    other = read_recipe(write_recipe(tmp_path / "other.json", autoencoder=longer))
    names: list[str] = []
    with pytest.raises(V2WError, match="autoencoder: it was begun with another recipe"):
        perform(noted(names), replace(job, recipe=other))
    assert not names


def test_a_stage_is_not_made_again_under_a_later_one(job: Job) -> None:
    perform(noted([]), job)
    (job.output / "autoencoder/stage.json").unlink()
    with pytest.raises(V2WError, match="it is not finished, but base was made from an earlier one"):
        perform(noted([]), job)


def test_one_process_at_a_time(job: Job) -> None:
    job.output.mkdir()
    with (job.output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(V2WError, match="another process is at work there"):
            perform(noted([]), job)


def test_faults_of_a_recipe_are_named(tmp_path: Path) -> None:
    record = {**TINY["record"], "target": {**TINY["record"]["target"], "scenario": "deathmatch"}}
    with pytest.raises(V2WError, match="the target deathmatch is among the scenarios of pretraining"):
        read_recipe(write_recipe(tmp_path / "seen.json", record=record))
    record = {**TINY["record"], "pretraining": {"../up": 10}, "frames": 3}
    with pytest.raises(V2WError, match=r"record\.pretraining.*pattern.*record\.frames"):
        read_recipe(write_recipe(tmp_path / "names.json", record=record))
    base = {**TINY["base"], "model": {**TINY["base"]["model"], "in_channels": 8}}
    with pytest.raises(V2WError, match=r"of 6 latent channels the base takes twice as many.*not \(8, 6\)"):
        read_recipe(write_recipe(tmp_path / "channels.json", base=base))


def test_flags_are_written_as_they_are_typed() -> None:
    command = Command(flags={"steps": 3, "lr": 1e-4, "horizons": [1, 4], "state": True, "save-frames": False})
    words = "--steps 3 --lr 0.0001 --horizons 1 --horizons 4 --state --no-save-frames"
    assert command.words() == words.split()
    with pytest.raises(ValueError, match="pattern"):
        Command(flags={"--steps": 3})


def test_the_recipe_of_make_world_can_be_built() -> None:
    recipe = read_recipe(RECIPE)
    with torch.device("meta"):
        models = [
            AutoencoderKL(**recipe.autoencoder.model),
            UNetSpatioTemporalConditionModel(**recipe.base.model),
        ]
    autoencoder, base = (sum(p.numel() for p in model.parameters()) for model in models)
    assert autoencoder < 5e6
    assert base < 10e6
    assert recipe.autoencoder.model["latent_channels"] == 16


def test_pictures_are_measured() -> None:
    truth = torch.zeros(2, 3, 16, 16)
    assert psnr(truth + 0.2, truth) == pytest.approx(20)
    assert grid_pattern(truth + 0.2, truth) == 0
    marked = truth.clone()
    marked[:, :, ::8, ::8] = 0.2  # one place of 64: its deviation is sqrt(63) times the mean
    assert grid_pattern(marked, truth) == pytest.approx(63**0.5, abs=1e-3)


@pytest.mark.slow
def test_from_recordings_to_a_world_that_ships(job: Job, tmp_path: Path) -> None:
    write_recordings(job.output)
    shutil.copytree(
        job.output / "record/target/train-0", job.output / "evaluate/train"
    )  # else it is recorded
    watched = replace(job, watch=lambda: write_page(STAGES, job))
    perform(STAGES, watched)
    page = (job.output / "world.html").read_text("utf-8")
    assert page.count(": finished</h2>") == len(STAGES)
    for figure in ("validation_loss", "above_copying_db", "true_minus_other_actions_db", "megabytes"):
        assert figure in page
    assert 'http-equiv="refresh"' not in page

    command = [sys.executable, "-m", "examples.doom.pipeline", "--device", "cpu"]
    command += [
        "--recipe",
        str(tmp_path / "recipe.json"),
        "--output",
        str(tmp_path / "killed"),
        "--until",
        "base",
    ]
    write_recordings(tmp_path / "killed")
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.Popen(command, cwd=ROOT, env=environment)
    while not (tmp_path / "killed/base/checkpoint.pt").exists():
        assert child.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    files = [
        file.relative_to(job.output) for file in (job.output / "base/pipeline").rglob("*") if file.is_file()
    ]
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "killed" / file).read_bytes() == (job.output / file).read_bytes(), file

    shipped = job.output / "ship"
    card = (shipped / "base/README.md").read_text("utf-8")
    assert "| autoencoder, PSNR, health_gathering (target) |" in card
    with Image.open(job.output / "evaluate/long_walks.png") as sheet:
        assert sheet.size == (5 * 66 - 2, 6 * 66 - 2)  # all five frames
    assert open_dataset(shipped / "data/test").lengths == [20, 20]
    before, after = (load_file(shipped / name / WEIGHTS) for name in ("base", "world"))
    assert read_manifest(shipped / "world").result[WEIGHTS] == file_digest(shipped / "world" / WEIGHTS)
    for file in (shipped / "world").rglob("*.json"):
        assert str(tmp_path) not in file.read_text("utf-8"), file
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}
    with pytest.raises(V2WError, match=r"it takes \d+ MB.*a smaller model"):
        small = job.recipe.model_copy(update={"ship": Ship.model_construct(train=10, megabytes=0)})
        run_ship(replace(job, recipe=small))
