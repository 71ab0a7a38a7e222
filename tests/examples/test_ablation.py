"""Ways to train further against drift, side by side."""

from pathlib import Path

import pytest

from examples.doom.pipeline.ablation import ARMS, main
from tests.squares import write


@pytest.mark.slow
def test_arms_are_trained_from_the_same_world_and_set_side_by_side(
    tiny_converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, test = (write(tmp_path / use, (40, 40), seed=seed) for seed, use in enumerate(("train", "test")))
    words = ["--world", tiny_converted, "--data", data, "--test", test, "--output", tmp_path / "out"]
    words += ["--steps", 1, "--sampling-steps", 1, "--frames", 10, "--rollouts", 2, "--device", "cpu"]
    words.append("--no-inverse-dynamics")
    with pytest.raises(SystemExit, match="roll out 'self-history, noised' in another way"):
        main([*map(str, words), "--arms", "history guidance"])
    arms = ["as it is", "self-history, noised", "history guidance"]
    assert ARMS["self-history"].flags and not ARMS["as it is"].flags
    main([*map(str, words), "--arms", *arms])
    shown = capsys.readouterr().out
    assert shown.endswith((tmp_path / "out/ablation.md").read_text("utf-8"))
    rows = [line.split(" | ") for line in shown.splitlines()[-5:]]
    assert [row[0] for row in rows[2:]] == [f"| {name}" for name in arms]
    assert "frames 2 to 2" in rows[0][3] and "frames 10 to 10" in rows[0][-1]
    for other in (("--rollouts", "1"), ("--episodes", "2"), ("--classifier-data", str(data))):
        with pytest.raises(SystemExit, match="its runs have"):
            main([*map(str, words), *other, "--arms", *arms])
