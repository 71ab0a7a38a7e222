"""Long walks of the game, beside recordings of short ones."""

import json
from pathlib import Path

import pytest

from examples.doom.pipeline.long_game import main
from examples.doom.pipeline.record import EPISODE, record

pytest.importorskip("vizdoom")


def test_short_walks_are_within_recordings_of_short_walks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record("health_gathering", 5, 10 * EPISODE, tmp_path / "data")
    words = ["--scenario", "health_gathering", "--seed", "5", "--frames", "500"]
    main([*words, "--data", str(tmp_path / "data")])
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["first"] == 1 and rows[0]["frames"] >= EPISODE
    assert rows[0]["within"] > 0.8 and rows[0]["detail"] == pytest.approx(1, abs=0.2)
    assert all(row["frames"] > 0 for row in rows)
    with pytest.raises(SystemExit, match="no such scenario"):
        main(["--scenario", "nowhere", "--data", str(tmp_path / "data")])
