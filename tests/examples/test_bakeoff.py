"""The bake-off of scenarios: recorded, finetuned, evaluated, and set side by side."""

from pathlib import Path

import pytest

from examples.doom.pipeline.bakeoff import main, table
from tests.squares import write


def test_a_table_has_every_column_that_a_row_has() -> None:
    lines = table({"a": {"x": "1"}, "b": {"x": "2", "y": "3"}}).splitlines()
    assert lines[0] == "| scenario | x | y |"
    assert lines[2:] == ["| a | 1 |  |", "| b | 2 | 3 |"]


@pytest.mark.slow
def test_a_scenario_is_measured_once(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, use in enumerate(("train", "test")):  # found there, so not recorded
        write(tmp_path / "out/moved" / use, (26, 26), seed=10 * seed)
    words = ["--output", str(tmp_path / "out"), "--base", str(tiny_base), "--device", "cpu"]
    words += ["--no-inverse-dynamics", "--scenarios", "moved", "--steps"]
    main([*words, "1"])
    shown = capsys.readouterr().out
    assert shown.endswith((tmp_path / "out/bakeoff.md").read_text("utf-8"))
    rows = [line.split(" | ") for line in shown.splitlines()[-3:]]
    assert len({len(row) for row in rows}) == 1
    assert rows[0][1] == "above copying, 1 ahead (dB)"
    assert rows[2][0] == "| moved"
    assert all(float(cell) < 0 for cell in rows[2][1:5])  # after one step, nothing is better than to copy
    written = (tmp_path / "out/moved/cells.json").stat().st_mtime_ns
    main([*words, "1"])
    assert (tmp_path / "out/moved/cells.json").stat().st_mtime_ns == written
    with pytest.raises(SystemExit, match="its runs have .*'steps': 1"):
        main([*words, "2"])
