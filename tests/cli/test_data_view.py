"""Frames of another size and rate than the model's: decided when it is finetuned, and applied alike ever after."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from tests.cli.commands import printed, refused
from v2w_convert.data import Episode, write_dataset

RECORDED = {"height": 16, "width": 16, "fit": "pad", "fps": 10.0}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of 24 x 48 at 30 a second, and one number per action; the model takes three, on 16 x 16."""
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            rng.integers(100, 256, (t, 24, 48, 3), dtype=np.uint8), rng.normal(size=(t, 1)).astype(np.float32)
        )
        for t in (13, 19)
    ]
    folder = tmp_path_factory.mktemp("data") / "wide"
    write_dataset(episodes, folder, fps=30, action_names=["turn"])
    return folder


@pytest.mark.slow
def test_a_view_is_decided_once(
    tiny_converted: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, video = tmp_path / "run", tmp_path / "out.mp4"
    short = ("--steps", 1, "--batch", 1, "--frames", 2)
    line = refused(capsys, "finetune", tiny_converted, "--data", wide, "-o", run)
    assert "its actions have 1 numbers, the model takes 3" in line
    assert not run.exists()
    view = ("--height", 16, "--width", 16, "--fit", "pad", "--fps", 10)
    result = printed(capsys, "finetune", tiny_converted, "--data", wide, "-o", run, *short, *view)
    assert result["data_view"] == RECORDED
    again = printed(capsys, "finetune", tiny_converted, "--data", wide, "-o", run, *short, *view)
    assert again["finished_before"] and again["data_view"] == RECORDED

    rolled = ("rollout", run, "--data", wide, "-o", video, "--history", 2, "--frames", 2, "--steps", 1)
    assert "its actions have 1 numbers, the model takes 3" in refused(capsys, *rolled, "--stride", 1)
    shown = printed(capsys, *rolled)["settings"]
    assert {name: shown[name] for name in RECORDED} == RECORDED and shown["stride"] is None
    with av.open(str(video)) as opened:
        assert opened.streams.video[0].average_rate == 10

    # What is finetuned further keeps the view, and so does the data that it is validated on.
    further = printed(
        capsys, "finetune", run, "--data", wide, "--validation", wide, "-o", tmp_path / "next", *short
    )
    assert further["data_view"] == RECORDED
    assert further["data"]["sha256"] == result["data"]["sha256"] == further["validation"]["sha256"]


def test_settings_that_go_together_are_refused_by_their_flags(
    tiny_converted: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("finetune", tiny_converted, "--data", wide, "-o", tmp_path / "run")
    assert "--height and --width go together" in refused(capsys, *given, "--height", 16)
    assert "both --stride and --fps" in refused(capsys, *given, "--stride", 2, "--fps", 10)
    assert "--fit without a size" in refused(capsys, *given, "--fit", "pad")
    assert "--fps 30 or --fps 15" in refused(capsys, *given, "--fps", 25)


def test_a_number_that_is_not_finite_is_named_before_anything_is_encoded(
    tiny_converted: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = tmp_path / "broken"
    shutil.copytree(wide, broken)
    file = broken / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    actions = np.stack(table["action"].to_numpy()).ravel()
    actions[13 + 4] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(actions), 1)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", column), file)
    line = refused(
        capsys, "finetune", tiny_converted, "--data", broken, "--validation", wide, "-o", tmp_path / "run",
        "--frames", 2, "--height", 16, "--width", 16, "--stride", 3,
    )  # fmt: skip
    assert "nan" in line and "broken" in line and "row 17" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_action_dimension_is_read_from_the_data(
    tiny_base: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    convert = ("convert", tiny_base, "-o", out)
    result = printed(capsys, *convert, "--data", wide, "--stride", 3)
    assert result["settings"]["action_dim"] == 3
    assert "wide: actions of 3 numbers (turn, turn+1, turn+2)" in result["notes"]
    manifest = json.loads((out / "v2w.json").read_text())
    assert manifest["action_dim"] == 3 and manifest["data_view"]["stride"] == 3
    assert printed(capsys, *convert, "--data", wide, "--stride", 3)["already_converted"]
    assert printed(capsys, *convert, "--config", out / "config.yaml")["already_converted"]
    assert "another plan" in refused(capsys, *convert, "--data", wide)
    assert "another plan" in refused(capsys, *convert, "--action-dim", 3)  # its data would be read otherwise
    # What was said when it was converted holds when it is finetuned.
    short = ("--steps", 1, "--batch", 1, "--frames", 2, "--height", 16, "--width", 16)
    found = printed(capsys, "finetune", out, "--data", wide, "-o", tmp_path / "run", *short)
    assert found["data_view"] == RECORDED | {"fit": "crop"}


def test_an_action_dimension_that_cannot_be_read(
    tiny_base: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(base: Path, *options: object) -> str:
        return refused(capsys, "convert", base, "-o", tmp_path / "out", *options)

    assert "neither --action-dim nor --data" in convert(tiny_base)
    assert "both --action-dim and --data" in convert(tiny_base, "--data", wide, "--action-dim", 3)
    assert "no such folder" in convert(tiny_base, "--data", tmp_path / "nowhere")
    assert "does not take --key-map" in convert(tiny_base, "--data", wide, "--key-map", "robomimic")
    assert "no autoencoder" in convert(tiny_base / "unet", "--data", wide)
    assert not (tmp_path / "out").exists()
