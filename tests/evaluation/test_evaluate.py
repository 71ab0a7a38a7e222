"""The whole of it on a tiny model, and what the result looks like."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from torch import Tensor

from tests.evaluation import torchscript
from tests.together import together
from v2w_convert.data import Episode, write_dataset
from v2w_convert.errors import V2WError
from v2w_convert.evaluation import action_following
from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.evaluate import evaluate
from v2w_convert.evaluation.report.folder import report_folder
from v2w_convert.evaluation.result import EvaluateResult
from v2w_convert.evaluation.settings import EvaluateSettings
from v2w_convert.evaluation.tables import tables
from v2w_convert.processes import ALONE, Processes
from v2w_convert.progress import ProgressEvent
from v2w_convert.surgery.load import load
from v2w_convert.to_json import result_json

SETTINGS = EvaluateSettings(
    steps=1, samples=2, history=2, horizons=(1, 3), long_frames=5, long_rollouts=2, device="cpu"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Actions are one-hot in the first set only."""
    chance = np.random.default_rng(0)
    episodes = [
        Episode(
            chance.integers(0, 256, (t, 16, 16, 3), dtype=np.uint8),
            np.eye(3, dtype=np.float32)[chance.integers(3, size=t)],
        )
        for t in (11, 5, 6)
    ]
    folder = tmp_path_factory.mktemp("data") / "one_hot"
    write_dataset(episodes, folder, fps=5, action_names=["a", "b", "c"])
    return folder


@pytest.fixture(scope="module")
def result(tiny_converted: Path, data: Path) -> EvaluateResult:
    return evaluate(tiny_converted, data, SETTINGS)


def test_the_result_says_what_was_measured_on_what(
    result: EvaluateResult, data: Path, tiny_converted: Path
) -> None:
    assert (result.world, result.data) == ("converted", "one_hot")
    assert (result.clips, result.episodes, result.history) == (4, 3, 2)
    level = load(tiny_converted).noise.history_level  # where the settings name none
    decided = {"height": 16, "width": 16, "fit": "crop", "fps": 5.0}  # as the data is
    expected = SETTINGS.model_copy(update={"context_noise": level, "dtype": "float32", **decided})
    assert EvaluateSettings.model_validate(result.settings) == expected
    assert result.horizons.keys() == result.actions.psnr_gap.keys() == {1, 3}
    assert result.baselines.last_frame_copied.keys() == {1, 3}
    assert result.long_horizon is not None
    assert (result.long_horizon.frames, result.long_horizon.rollouts) == (5, 2)
    assert 0 <= result.long_horizon.within_real.mean <= 1
    assert [(x.first, x.last) for x in result.long_horizon.drift] == [(n, n) for n in range(1, 6)]
    assert {len(curve) for curve in result.psnr_curves.values()} == {3}
    assert result.psnr_curves["generated"][2] == pytest.approx(result.horizons[3].psnr.mean)
    # Before finetuning no action has an effect: the gap is exactly nothing.
    nothing = {"mean": 0.0, "low": 0.0, "high": 0.0}
    changes = result.actions.sensitivity
    assert asdict(result.actions.psnr_gap[1]) == asdict(changes.other_episode) == nothing
    assert {name: asdict(effect) for name, effect in changes.parts.items()} == {"action": nothing}
    assert changes.other_noise.low > 0


def test_all_keys_of_the_json_are_snake_case(result: EvaluateResult) -> None:
    def keys(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for inner in value.values() for key in keys(inner)}
        return set()

    found = keys(json.loads(json.dumps(asdict(result), allow_nan=False)))
    assert {"psnr_of_mean", "last_frame_copied", "psnr_gap", "within_round_tripped"} <= found
    assert all(key.isidentifier() and key == key.lower() for key in found - {"1", "3"})


def test_the_same_seed_gives_the_same_figures(
    result: EvaluateResult, tiny_converted: Path, data: Path
) -> None:
    events: list[ProgressEvent] = []
    again = evaluate(tiny_converted, data, SETTINGS, progress=events.append)
    assert again == result
    assert {event.task for event in events} == {"evaluate", "roll out"}
    assert (events[-1].done, events[-1].total) == (10, 10)  # two rollouts of five frames
    assert events[2].detail == "clips 1 to 4 of 4: rolling out, sample 2 of 2"


def test_other_horizons_change_no_figure_of_these(
    result: EvaluateResult, tiny_converted: Path, data: Path
) -> None:
    fewer = SETTINGS.model_copy(update={"horizons": (3,), "long_frames": 0})
    found = evaluate(tiny_converted, data, fewer)
    assert found.horizons == {3: result.horizons[3]}
    assert found.actions.psnr_gap == {3: result.actions.psnr_gap[3]}
    assert found.long_horizon is None


def test_half_precision_gives_nearly_the_same(
    result: EvaluateResult, tiny_converted: Path, data: Path
) -> None:
    half = SETTINGS.model_copy(update={"dtype": "bfloat16", "long_frames": 0})
    found = evaluate(tiny_converted, data, half)
    assert found.horizons != result.horizons
    assert found.horizons[3].psnr.mean == pytest.approx(result.horizons[3].psnr.mean, abs=0.5)


def test_why_actions_were_not_classified(result: EvaluateResult, tiny_converted: Path, data: Path) -> None:
    assert result.actions.inverse_dynamics == []
    assert "no other episodes" in str(result.actions.inverse_dynamics_reason)


def test_actions_are_read(
    tiny_converted: Path, data: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = partial(action_following.train_inverse_dynamics, steps=3)  # how well is test_inverse_dynamics'
    monkeypatch.setattr(action_following, "train_inverse_dynamics", train)
    found = evaluate(tiny_converted, data, SETTINGS.model_copy(update={"classifier_data": data}))
    assert found.actions.inverse_dynamics_reason is None
    [figures] = found.actions.inverse_dynamics
    assert (figures.name, figures.measure) == ("action", "accuracy")
    assert 0 <= figures.generated.mean <= 1
    assert 1 / 3 <= figures.ignoring_actions <= 1
    assert found.long_horizon is not None
    assert all(0 <= x.inverse_dynamics["action"] <= 1 for x in found.long_horizon.drift)
    # Of other episodes, whose actions are amounts, the same actions are read as amounts.
    brief = {"classifier_data": tiny_data, "samples": 1, "long_frames": 0}
    amounts = evaluate(tiny_converted, data, SETTINGS.model_copy(update=brief)).actions
    read = [(x.name, x.measure, x.ignoring_actions) for x in amounts.inverse_dynamics]
    assert read == [(name, "r2", 0.0) for name in "ab"]
    assert str(amounts.inverse_dynamics_reason).startswith("c: never changes")


@pytest.mark.slow
def test_the_figures_do_not_depend_on_what_is_rolled_out_together(
    result: EvaluateResult, tiny_converted: Path, data: Path
) -> None:
    found = evaluate(tiny_converted, data, SETTINGS.model_copy(update={"batch": 3}))

    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [x for inner in value.values() for x in numbers(inner)]
        if isinstance(value, list | tuple):
            return [x for inner in value for x in numbers(inner)]
        return [value] if isinstance(value, float) else []

    ours, theirs = (numbers(asdict(replace(x, settings={}))) for x in (found, result))
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_several_processes_give_the_report_of_one(
    tiny_converted: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = partial(action_following.train_inverse_dynamics, steps=3)
    monkeypatch.setattr(action_following, "train_inverse_dynamics", train)
    fid = torchscript.write(torchscript.Inception(), tmp_path / "fid.pt")
    more = {"batch": 1, "samples": 1, "classifier_data": data, "fid": fid, "save_frames": True, "videos": 3}
    settings = SETTINGS.model_copy(update=more)
    clips = []
    roll_out = EvaluationContext.rollout_stream

    def count(self: EvaluationContext, rows: Tensor, *rest: Any) -> Any:
        clips.extend(rows.tolist())
        return roll_out(self, rows, *rest)

    monkeypatch.setattr(EvaluationContext, "rollout_stream", count)

    def work(name: str, processes: Processes) -> object:
        clips.clear()
        with report_folder(tmp_path / name, processes) as report:
            result = evaluate(tiny_converted, data, settings, report=report, processes=processes)
        return [result_json(result), len(clips)]

    alone, count_alone = work("alone", ALONE)  # type: ignore[misc]
    assert count_alone == 4 * 2 + 4 * 4 + 2  # clips, to compare actions, and long
    assert together(2, tmp_path / "told", partial(work, "shared")) == [[alone, count_alone // 2]] * 2
    found, expected = (
        {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "shared", tmp_path / "alone")
    )
    assert found.keys() == expected.keys()
    assert {"figures.json", "report.html", "clip-0002.mp4"} <= {path.name for path in found}
    for path in found:  # how a video is packed depends on what was in memory before
        if path.suffix not in (".mp4", ".html"):
            assert found[path].read_bytes() == expected[path].read_bytes(), path


@pytest.mark.slow
def test_networks_that_the_user_names(tiny_converted: Path, data: Path, tmp_path: Path) -> None:
    files = {
        "lpips": torchscript.Lpips(),
        "dreamsim": torchscript.DreamSim(),
        "fid": torchscript.Inception(),
        "fvd": torchscript.I3D(),
        "frechet": torchscript.Pooled(),
    }
    paths = {name: torchscript.write(module, tmp_path / f"{name}.pt") for name, module in files.items()}
    short = SETTINGS.model_copy(update={**paths, "samples": 1, "long_frames": 0})
    with pytest.raises(V2WError, match=r"clips of 3 frames; I3D takes 10 at least \(try: --horizons 16\)"):
        evaluate(tiny_converted, data, short)
    (tmp_path / "more").mkdir()
    chance = np.random.default_rng(1)
    long = [
        Episode(
            chance.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8), np.eye(3, dtype=np.float32)[[0] * 12]
        )
        for _ in range(3)
    ]
    write_dataset(long, tmp_path / "more" / "long", fps=5, action_names=["a", "b", "c"])
    found = evaluate(
        tiny_converted, tmp_path / "more" / "long", short.model_copy(update={"horizons": (1, 10)})
    )
    assert found.not_measured == {}
    quality = found.horizons[10]
    assert quality.lpips is not None and quality.dreamsim is not None
    # Half the mean square of twice the difference: PSNR says the same in decibels.
    assert quality.lpips.mean == pytest.approx(2 * 10 ** (-quality.psnr.mean / 10), rel=0.05)
    shapes = {name: (x.samples, x.dimensions) for name, x in found.frechet.items()}
    assert shapes == {"fid": (30, 6), "fvd": (3, 6), "frechet[frechet.pt]": (30, 12)}
    assert all(x.generated > 0 for x in found.frechet.values())
    named = [table.title for table in tables(found)]
    assert "Fréchet distances from the recorded frames" in named and "not measured" not in named


def test_tables(result: EvaluateResult) -> None:
    horizons, actions, long, missing = tables(result)
    assert horizons.columns == ["", "1", "3"]
    assert all(len(row) == 3 for row in horizons.rows)
    assert [row[0] for row in horizons.rows[:4]] == [
        "PSNR (dB)",
        "SSIM",
        "PSNR (dB) of the mean of 2",
        "SSIM of the mean of 2",
    ]
    figure = result.horizons[3].psnr
    assert horizons.rows[0][2] == f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
    assert actions.title == "whether actions are followed"
    assert actions.rows[-1][1].startswith("not measured: no other episodes")
    assert [row[0] for row in long.rows] == [
        *(f"{n} to {n}" for n in range(1, 6)),
        "all",
        "all, within real frames",
    ]
    assert dict(missing.rows)["fvd"] == "no network (--fvd i3d_torchscript.pt)"
    assert len(list(tables(replace(result, long_horizon=None)))) == 3
    one = next(tables(replace(result, settings={**result.settings, "samples": 1})))
    assert not any("mean of" in row[0] for row in one.rows)  # which is the one rollout


def test_what_cannot_be_evaluated_is_refused(tiny_converted: Path, data: Path) -> None:
    def refused(match: str, **changes: object) -> None:
        with pytest.raises(V2WError, match=match):
            evaluate(tiny_converted, data, SETTINGS.model_copy(update=changes))

    refused("the longest of 3 episodes has 11", history=20)
    refused("only one episode is long enough", history=5)
    refused("no such file", lpips=data / "none.pt")
    refused("no camera 'left'", camera="left")
    refused("torch knows no such device", device="gpu")
    with pytest.raises(ValidationError):
        EvaluateSettings.model_validate({"horizons": [0]})
