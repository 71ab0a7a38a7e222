"""The whole of it, on files."""

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from v2w_convert.checkpoint.digests import is_recorded
from v2w_convert.cli import run as cli
from v2w_convert.data import Episode, open_dataset, write_dataset
from v2w_convert.errors import V2WError
from v2w_convert.finetuning import checkpoints, objective, precision, processes, save
from v2w_convert.finetuning.finetune import finetune, told_of_autoencoder
from v2w_convert.finetuning.processes import make_accelerator
from v2w_convert.finetuning.result import FinetuneResult
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.progress import ProgressEvent, no_progress
from v2w_convert.surgery.action_statistics import recorded_actions
from v2w_convert.surgery.load import load
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.world.vae import open_vae

Data = Callable[..., Path]


@pytest.fixture(scope="module")
def unbroken(
    tiny_converted: Path,
    tiny_data: Path,
    settings: FinetuneSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, FinetuneResult]:
    """A finished run that was never interrupted, and what it returned."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    return run, finetune(tiny_converted, tiny_data, run, settings)


def contents(run: Path) -> dict[str, str]:
    """Hashes of all files, but for the log, where it says how long things took."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "log.jsonl"]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def logged(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


class Stop(Exception):
    pass


def stop_at(task: str, done: int) -> Callable[[ProgressEvent], None]:
    def report(progress: ProgressEvent) -> None:
        if (progress.task, progress.done) == (task, done):
            raise Stop

    return report


def test_a_run_can_be_stepped_into_without_its_data(unbroken: Any, settings: FinetuneSettings) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("gymnasium")
    from v2w_convert.env import WorldEnv
    from v2w_convert.playing.game import open_game
    from v2w_convert.playing.settings import PlaySettings

    run = unbroken[0]
    game = open_game(run, None, PlaySettings(device="cpu", history=2), no_progress)
    assert settings.validation is not None
    every = open_dataset(settings.validation).episodes()
    recorded = [episode for episode in every if len(episode) >= settings.frames]
    assert len(game.starts) == len(recorded) > 1
    for start, episode in zip(game.starts, recorded, strict=True):
        assert np.array_equal(start.actions, episode.arriving_actions[:2])
    moment = game.begin(1, 0, game.sampling)
    assert len(moment.pictures) == 1
    env = WorldEnv(run, history=2, steps=1)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0].shape == (16, 16, 3)


# Checkpoints are made after steps 2 and 4: step 3 is made twice; at 4 only the export is left.
@pytest.mark.parametrize(("task", "done"), [("encode", 2), ("train", 3), ("train", 4)])
def test_an_interrupted_run_ends_like_an_unbroken_one(
    task: str,
    done: int,
    unbroken: Any,
    tiny_converted: Path,
    tiny_data: Path,
    settings: FinetuneSettings,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stop):
        finetune(tiny_converted, tiny_data, run, settings, progress=stop_at(task, done))
    assert not (run / "v2w.json").exists()
    torch.rand(5)
    result = finetune(tiny_converted, tiny_data, run, settings)
    assert result == replace(unbroken[1], output=str(run))
    assert contents(run) == contents(unbroken[0])
    assert logged(run) == logged(unbroken[0])


def test_a_damaged_checkpoint_only_costs_time(
    unbroken: Any, tiny_converted: Path, tiny_data: Path, settings: FinetuneSettings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken[0], run)
    (run / "v2w.json").unlink()
    weights = run / "checkpoints/step-4/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    finetune(tiny_converted, tiny_data, run, settings)
    shutil.rmtree(run / "checkpoints/step-4.damaged")
    assert contents(run) == contents(unbroken[0])


@pytest.mark.parametrize("files", [0, 7, 9])
def test_an_export_that_breaks_off_is_done_again(
    files: int,
    unbroken: Any,
    tiny_converted: Path,
    tiny_data: Path,
    settings: FinetuneSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    for name in ("latents", "checkpoints"):
        shutil.copytree(unbroken[0] / name, run / name)
    for name in ("run.json", "log.jsonl"):
        shutil.copy(unbroken[0] / name, run)
    placed = []
    whole = save.write_atomically

    def put(target: Path, write: Callable[[Path], object]) -> None:
        placed.append(target)
        if len(placed) > files:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_name(".v2w-12-ab.partial").write_text("half")
            raise Stop
        whole(target, write)

    def write_json(target: Path, data: dict[str, Any]) -> None:
        put(target, lambda file: file.write_text(json.dumps(data)))

    with monkeypatch.context() as patch:
        patch.setattr(save, "write_atomically", put)
        patch.setattr(save, "write_json", write_json)
        with pytest.raises(Stop):
            finetune(tiny_converted, tiny_data, run, settings)
    assert len(placed) == files + 1
    assert not (run / "v2w.json").exists()
    with pytest.raises(V2WError):
        load(run)
    finetune(tiny_converted, tiny_data, run, settings)
    assert contents(run) == contents(unbroken[0])


def test_a_finished_run_is_left_as_it_is(
    unbroken: Any, tiny_converted: Path, tiny_data: Path, settings: FinetuneSettings
) -> None:
    run, result = unbroken
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert finetune(tiny_converted, tiny_data, run, settings) == replace(result, finished_before=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_another_run_does_not_touch_it(
    unbroken: Any, tiny_converted: Path, tiny_data: Path, tiny_validation: Path, settings: FinetuneSettings
) -> None:
    run, _ = unbroken
    before = contents(run)
    with pytest.raises(V2WError, match=r"it holds another run; its lr is 0\.001, not 0\.5"):
        finetune(tiny_converted, tiny_data, run, settings.model_copy(update={"lr": 0.5}))
    with pytest.raises(V2WError, match="its data differs"):
        finetune(tiny_converted, tiny_validation, run, settings)
    assert contents(run) == before


def test_the_result_is_a_converted_model_with_the_averaged_weights(
    unbroken: Any, tiny_converted: Path, settings: FinetuneSettings
) -> None:
    run, result = unbroken
    manifest, before = read_manifest(run), read_manifest(tiny_converted)
    assert manifest.stage == "finetuned"
    assert manifest.model_dump(exclude={"stage", "result", "finetuning"}) == before.model_dump(
        exclude={"stage", "result", "finetuning"}
    )
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert FinetuneSettings.model_validate(config) == settings.model_copy(update={"mixed_precision": "no"})
    assert manifest.finetuning == {
        k: v for k, v in asdict(result).items() if k not in ("output", "finished_before")
    }
    assert manifest.result.keys() == before.result.keys()
    for name, digest in manifest.result.items():
        assert is_recorded(run / name, digest)

    stored = {k: v for file in (run / "unet").glob("*.safetensors") for k, v in load_file(file).items()}
    average, model = (
        load_file(run / f"checkpoints/step-4/{name}.safetensors") for name in ("average", "model")
    )
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert stored.keys() == average.keys()
    assert all(torch.equal(stored[name], average[name].half()) for name in stored)
    assert any(not torch.equal(stored[name], model[name].half()) for name in stored)
    world = load(run)
    assert all(torch.equal(stored[name], tensor) for name, tensor in world.base.state_dict().items())

    for file in tiny_converted.rglob("*"):
        relative = file.relative_to(tiny_converted)
        if file.is_file() and file.suffix != ".safetensors" and file.name not in ("v2w.json", "README.md"):
            assert (run / relative).read_bytes() == file.read_bytes(), relative
    assert (run / "vae/diffusion_pytorch_model.safetensors").read_bytes() == (
        tiny_converted / "vae/diffusion_pytorch_model.safetensors"
    ).read_bytes()


def test_actions_are_normalised_by_the_data(unbroken: Any, tiny_data: Path) -> None:
    actions = np.concatenate([episode.actions[:-1] for episode in open_dataset(tiny_data).episodes()])
    embedding = load(unbroken[0]).base.get_submodule("time_embedding.v2w_action")
    expected = {"center": actions.mean(0), "scale": [*actions.std(0)[:2], 1.0]}
    for name, value in expected.items():
        torch.testing.assert_close(embedding.get_buffer(name), torch.tensor(np.array(value)).half())
    (recorded,) = recorded_actions(read_manifest(unbroken[0]))
    assert recorded == unbroken[1].actions
    assert recorded is not None and recorded.count == len(actions)
    np.testing.assert_allclose(recorded.mean, actions.astype(np.float64).mean(0))


def test_the_loss_falls(tiny_converted: Path, write_squares: Data, tmp_path: Path) -> None:
    data = write_squares(tmp_path / "one", (6,))
    settings = FinetuneSettings(
        steps=16, batch=2, frames=6, lr=3e-3, warmup=0, validation=data, validation_clips=1, ema_decay=0.5
    )
    losses = finetune(tiny_converted, data, tmp_path / "run", settings).validation_loss
    assert losses is not None and losses.last < 0.75 * losses.first


def test_a_finetuned_model_can_be_finetuned_further(
    unbroken: Any, write_squares: Data, settings: FinetuneSettings, tmp_path: Path
) -> None:
    """It keeps the normalisation that it has learned with, and says what came before."""
    first, _ = unbroken
    run = tmp_path / "run"
    data = write_squares(tmp_path / "other", (8,), seed=7)
    finetune(first, data, run, settings.model_copy(update={"steps": 1, "validation": None}))
    manifest = read_manifest(run)
    assert manifest.finetuning is not None
    assert manifest.finetuning["before"] == read_manifest(first).finetuning
    assert len(list((run / "latents").iterdir())) == 2  # latents, and what is made of first frames
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-1"]
    for name in ("center", "scale"):
        name = f"time_embedding.v2w_action.{name}"
        assert torch.equal(load(run).base.get_buffer(name), load(first).base.get_buffer(name))


def test_data_that_does_not_fit_is_refused_before_anything_is_written(
    tiny_converted: Path,
    tiny_data: Path,
    tiny_base: Path,
    write_squares: Data,
    settings: FinetuneSettings,
    tmp_path: Path,
) -> None:
    def refused(match: str, converted: Path = tiny_converted, data: Path = tiny_data, **changes: Any) -> None:
        here = set(tmp_path.iterdir())
        with pytest.raises(V2WError, match=match):
            finetune(converted, data, tmp_path / "run", settings.model_copy(update=changes))
        assert set(tmp_path.iterdir()) == here

    refused("its actions have 2 numbers", data=write_squares(tmp_path / "two", (8,), actions=2))
    refused("its actions have 2 numbers", validation=tmp_path / "two")
    refused("no episode has 13 frames, the longest has 12", frames=13)
    refused("4 x 4 do not go through the model", data=write_squares(tmp_path / "small", (8,), size=4))
    refused("no camera 'left'", camera="left")
    refused("no such folder", data=tmp_path / "nowhere")
    refused("not a converted model", converted=tiny_base)
    empty = write_squares(tmp_path / "empty", (8,))
    info = json.loads((empty / "meta/info.json").read_text())
    (empty / "meta/info.json").write_text(json.dumps(info | {"total_episodes": 0}))
    refused("it has no episode", data=empty)


def test_actions_that_do_not_fit_the_stored_dtype_are_refused(
    tiny_converted: Path, tiny_data: Path, tmp_path: Path, settings: FinetuneSettings
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = tmp_path / "large"
    shutil.copytree(tiny_data, data)
    file = data / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    actions = np.stack(table["action"].to_numpy()) * np.float32(1e6)
    column = pa.FixedSizeListArray.from_arrays(pa.array(actions.ravel()), 3)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", column), file)
    with pytest.raises(V2WError, match=r"actions of mean .* deviation .* do not fit torch\.float16"):
        finetune(tiny_converted, data, tmp_path / "run", settings)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    tiny_converted: Path,
    tiny_data: Path,
    settings: FinetuneSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, whole, calls = tmp_path / "run", objective.loss, []

    def broken(*given: Any) -> Tensor:
        if given[0].training:
            calls.append(1)
        return whole(*given) * (torch.nan if len(calls) == 3 else 1.0)

    monkeypatch.setattr(objective, "loss", broken)
    place = r"take step 3: its loss is nan \(only of several clips together\)"
    with pytest.raises(V2WError, match=place):
        finetune(tiny_converted, tiny_data, run, settings)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-2"]
    kept = load_file(run / "checkpoints/step-2/model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())
    assert not (run / "v2w.json").exists()


def test_a_full_disk_is_a_clear_error_and_costs_no_checkpoint(
    tiny_converted: Path,
    tiny_data: Path,
    settings: FinetuneSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, whole = tmp_path / "run", checkpoints.write_tensors

    def full(file: Path, tensors: dict[str, torch.Tensor]) -> None:
        whole(file, tensors)
        if "step-4" in str(file):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_tensors", full)
    with pytest.raises(V2WError, match="No space left on device"):
        finetune(tiny_converted, tiny_data, run, settings)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-2"]


def test_no_room_for_a_checkpoint_is_told_before_it_is_written(
    tiny_converted: Path,
    tiny_data: Path,
    settings: FinetuneSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is room for the weights, which is asked for at the beginning, and not for the optimizer's state."""
    weights = sum(p.numel() * 4 for p in load(tiny_converted).base.parameters())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2 * weights))
    one = settings.model_copy(update={"validation": None})
    match = r"write the checkpoint of step 2: it takes .* MB, and .*/run has .* left"
    with pytest.raises(V2WError, match=match):
        finetune(tiny_converted, tiny_data, tmp_path / "run", one)
    assert not list(tmp_path.glob("run/checkpoints/*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=weights // 2))
    with pytest.raises(V2WError, match=r"write checkpoints into .*/other: it takes"):
        finetune(tiny_converted, tiny_data, tmp_path / "other", one)


@pytest.fixture(scope="module")
def constant(settings: FinetuneSettings) -> FinetuneSettings:
    """Settings of which nothing depends on the number of steps."""
    steady = {"lr_scheduler": "constant_with_warmup", "warmup": 2, "validation": None}
    return FinetuneSettings(**(settings.model_dump() | steady))


@pytest.fixture(scope="module")
def long(
    tiny_converted: Path,
    tiny_data: Path,
    constant: FinetuneSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run of four steps with such settings, whose latents lie elsewhere."""
    folder = tmp_path_factory.mktemp("runs")
    kept = constant.model_copy(update={"cache": folder / "cache", "keep_checkpoints": 9})
    finetune(tiny_converted, tiny_data, folder / "run", kept)
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("finished", [3, 1])
def test_a_run_of_a_constant_rate_grows(
    finished: int,
    long: Path,
    tiny_converted: Path,
    tiny_data: Path,
    constant: FinetuneSettings,
    tmp_path: Path,
) -> None:
    run, kept = tmp_path / "run", {"cache": long.parent / "cache"}
    short = constant.model_copy(update={**kept, "steps": finished})
    finetune(tiny_converted, tiny_data, run, short)
    assert not (run / "latents").exists()
    before = contents(run)
    with pytest.raises(Stop):  # in the step after, which leaves the finished model as it is
        grown = constant.model_copy(update={**kept, "checkpoint_every": 10})
        finetune(tiny_converted, tiny_data, run, grown, progress=stop_at("train", finished + 1))
    same = {name for name in before if name.startswith(("unet", "v2w", "vae"))}
    assert {name: contents(run)[name] for name in same} == {name: before[name] for name in same}
    assert finetune(tiny_converted, tiny_data, run, grown).steps == 4
    weights = [name for name in contents(run) if name.startswith(("unet", "checkpoints/step-4"))]
    assert {name: contents(run)[name] for name in weights} == {name: contents(long)[name] for name in weights}
    assert json.loads((run / "run.json").read_text())["settings"]["steps"] == 4
    assert finetune(tiny_converted, tiny_data, run, grown).finished_before
    with pytest.raises(V2WError, match=f"its steps is 4, not {finished}"):
        finetune(tiny_converted, tiny_data, run, short)


def test_a_run_of_a_falling_rate_does_not_grow(
    unbroken: Any, tiny_converted: Path, tiny_data: Path, settings: FinetuneSettings
) -> None:
    run, _ = unbroken
    for changes in ({}, {"lr_scheduler": "constant_with_warmup", "warmup": 0.25}):
        with pytest.raises(V2WError, match="its steps is 4, not 6"):
            finetune(tiny_converted, tiny_data, run, settings.model_copy(update={"steps": 6, **changes}))


@pytest.mark.slow
def test_a_run_begins_with_a_checkpoint_of_another(
    long: Path, tiny_converted: Path, tiny_data: Path, constant: FinetuneSettings, tmp_path: Path
) -> None:
    """With the same settings it ends as that one; the log says what came before."""
    run = tmp_path / "run"
    source = shutil.copytree(long, tmp_path / "long")
    later = constant.model_copy(
        update={"cache": long.parent / "cache", "resume_from": source / "checkpoints/step-2"}
    )
    with pytest.raises(Stop):
        finetune(tiny_converted, tiny_data, run, later, progress=stop_at("train", 3))
    assert len(logged(run)) == 3
    shutil.rmtree(source)  # it is needed once
    finetune(tiny_converted, tiny_data, run, later)
    weights = [name for name in contents(long) if name.startswith(("unet", "checkpoints/step-4"))]
    assert {name: contents(run)[name] for name in weights} == {name: contents(long)[name] for name in weights}
    assert logged(run) == logged(long)
    other = later.model_copy(update={"resume_from": long / "checkpoints/step-2", "lr": 0.5})
    finetune(tiny_converted, tiny_data, tmp_path / "other", other)
    assert [line["lr"] for line in logged(tmp_path / "other")] == [0.0, 0.0005, 0.5, 0.5]


def test_what_is_no_checkpoint_of_the_same_model_is_refused(
    long: Path,
    unbroken: Any,
    tiny_converted: Path,
    tiny_data: Path,
    constant: FinetuneSettings,
    tmp_path: Path,
) -> None:
    def refused(match: str, checkpoint: Path, converted: Path = tiny_converted) -> None:
        changes = {"resume_from": checkpoint, "cache": long.parent / "cache"}
        with pytest.raises(V2WError, match=match):
            finetune(converted, tiny_data, tmp_path / "run", constant.model_copy(update=changes))
        assert not list(tmp_path.glob("run/*.json"))

    refused("there is no such folder", long / "checkpoints/step-9")
    refused("it is no checkpoint", long)
    shutil.copytree(long / "checkpoints/step-2", tmp_path / "a/checkpoints/step-2")
    refused("it does not lie in a run folder", tmp_path / "a/checkpoints/step-2")
    refused("it is of another converted model", long / "checkpoints/step-2", unbroken[0])
    shutil.copy(long / "run.json", tmp_path / "a")
    shutil.copy(long / "log.jsonl", tmp_path / "a")
    file = tmp_path / "a/checkpoints/step-2/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(V2WError, match="it is damaged"):
        changes = {"resume_from": file.parent, "cache": long.parent / "cache"}
        finetune(tiny_converted, tiny_data, tmp_path / "b", constant.model_copy(update=changes))


def test_a_cache_in_the_data_is_refused(
    tiny_converted: Path, tiny_data: Path, settings: FinetuneSettings, tmp_path: Path
) -> None:
    within = settings.model_copy(update={"cache": tiny_data / "cache"})
    with pytest.raises(V2WError, match=r"keep what is encoded in .*: it lies in"):
        finetune(tiny_converted, tiny_data, tmp_path / "run", within)
    assert not list(tmp_path.iterdir())


def test_mixed_precision_trains_and_is_not_mixed_up(
    tiny_converted: Path, write_squares: Data, settings: FinetuneSettings, tmp_path: Path
) -> None:
    data = write_squares(tmp_path / "one", (6,))
    bf16 = settings.model_copy(update={"steps": 1, "validation": None, "mixed_precision": "bf16"})
    make_accelerator(settings.model_copy(update={"device": "cpu"}))
    with pytest.raises(V2WError, match="already been initialized"):
        finetune(tiny_converted, data, tmp_path / "run", bf16)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        finetune(tiny_converted, data, tmp_path / "run", bf16)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    kept = load_file(tmp_path / "run/checkpoints/step-1/model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}


def test_a_device_that_is_not_there_is_refused(
    settings: FinetuneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = settings.model_copy(update={"device": "xpu"})
    with pytest.raises(V2WError, match="'xpu': this machine has no xpu"):
        make_accelerator(elsewhere)
    for place in (processes, precision):
        monkeypatch.setattr(place, "resolve_device", torch.device)
    with pytest.raises(V2WError, match="accelerate chose cpu"):
        make_accelerator(elsewhere)


def test_an_autoencoder_that_cannot_hold_such_pictures_is_told(tmp_path: Path) -> None:
    vae = open_vae(Path("examples/doom/base"))
    assert not told_of_autoencoder(vae, open_dataset("examples/doom/data/test"))
    white = np.full((2, 64, 64, 3), 255, np.uint8)
    write_dataset(
        [Episode(white, np.zeros((2, 1), np.float32))], tmp_path / "white", fps=1, action_names=["x"]
    )
    [told] = told_of_autoencoder(vae, open_dataset(tmp_path / "white"))
    assert told.startswith("white: a frame comes back from the autoencoder at 6.")


def test_a_first_run_says_how_to_train_on(
    tiny_converted: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a command that can be run as it is."""
    first, second = (str(tmp_path / name) for name in ("a first", "second"))

    def advised(*words: str) -> list[str]:
        assert cli([*words]) == 0
        lines = capsys.readouterr().err.splitlines()
        return [line.split("train on: v2w ")[1] for line in lines if "train on: v2w " in line]

    few = ["--steps", "1", "--batch", "1", "--frames", "3", "--device", "cpu", "--lr", "0.002"]
    [command] = advised("finetune", str(tiny_converted), "--data", str(tiny_data), "-o", first, *few)
    assert not advised(*(second if word == "LONGER" else word for word in shlex.split(command)))
    record = read_manifest(Path(second)).finetuning or {}
    assert (record["settings"]["lr"], record["settings"]["frames"], record["before"]["steps"]) == (
        0.001,
        3,
        1,
    )
