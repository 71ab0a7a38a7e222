import json
from pathlib import Path
from typing import Any

import pytest

from v2w_convert.errors import V2WError
from v2w_convert.finetuning.run_folder import Log, Record, locked, require_own, write_atomically

RECORD: Record = {
    "version": "1",
    "settings": {"lr": 0.1, "steps": 4},
    "converted": {"name": "model", "sha256": "a"},
    "data": {"name": "set", "sha256": "b"},
    "validation": None,
}
CONFIG = "lr: 0.1\nsteps: 4\n"


def other(**changes: Any) -> Record:
    return {**RECORD, **changes}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all my work")
    with (
        pytest.raises(V2WError, match="not empty, and not a finetuning run"),
        locked(tmp_path, RECORD, CONFIG, []),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(V2WError, match="it is a file"):
        require_own(tmp_path / "thesis.tex", RECORD, [])


def test_a_folder_within_the_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(V2WError, match="it lies in"):
        require_own(tmp_path / "model/run", RECORD, [tmp_path / "model"])
    require_own(tmp_path / "model-run", RECORD, [tmp_path / "model"])


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"settings": {"lr": 0.2, "steps": 4}}, "its lr is 0.1, not 0.2"),
        ({"settings": {"lr": 0.1, "steps": 4, "new": 1}}, "its new is None, not 1"),
        ({"data": {"name": "other", "sha256": "c"}}, r"its data differs \(set, not other\)"),
        ({"converted": {"name": "model", "sha256": "c"}}, r"its converted differs \(model, not model\)"),
        (
            {"validation": {"name": "held", "sha256": "c"}},
            r"its validation differs \(none, not held\)",
        ),
    ],
)
def test_another_run_is_refused_by_what_differs(changed: Record, found: str, tmp_path: Path) -> None:
    with locked(tmp_path, RECORD, CONFIG, []):
        write_atomically(tmp_path / "log.jsonl", lambda file: file.write_text(""))
    with pytest.raises(V2WError, match=found):
        require_own(tmp_path, other(**changed), [])


def test_the_same_run_is_recognised_wherever_its_inputs_lie(tmp_path: Path) -> None:
    with locked(tmp_path, RECORD, CONFIG, []):
        pass
    require_own(tmp_path, other(version="2", data={"name": "moved", "sha256": "b"}), [])


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "run", RECORD, CONFIG, []),
        pytest.raises(V2WError, match="another process"),
        locked(tmp_path / "run", RECORD, CONFIG, []),
    ):
        pass
    with locked(tmp_path / "run", RECORD, CONFIG, []):
        pass


def test_a_run_that_made_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "deep/run", RECORD, CONFIG, []):
        assert (tmp_path / "deep/run/run.json").exists() and (tmp_path / "deep/run/config.yaml").exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_made_something_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), locked(run, RECORD, CONFIG, []):
        (run / "checkpoints").mkdir()
        raise KeyboardInterrupt
    assert json.loads((run / "run.json").read_text()) == RECORD
    assert (run / "config.yaml").read_text() == CONFIG


def test_remains_of_a_killed_start_are_cleared(tmp_path: Path) -> None:
    with locked(tmp_path, RECORD, CONFIG, []):
        pass
    for name in ("latents/.key.begun", "checkpoints/.step-5.partial-12-ab", "checkpoints/.step-4"):
        (tmp_path / name / "half").mkdir(parents=True)
    (tmp_path / "checkpoints/step-3").mkdir()
    with locked(tmp_path, RECORD, CONFIG, []):
        left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    assert left == ["checkpoints/step-3", "latents/.key.begun"]  # with which encoding goes on


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(V2WError, match="finetune into"), locked(tmp_path / "file/run", RECORD, CONFIG, []):
        pass


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, lambda target: target.write_text("before"))

    def break_off(target: Path) -> None:
        target.write_text("aft")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, break_off)
    assert file.read_text() == "before"
    write_atomically(file, lambda target: target.write_text("after"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "after"


def test_the_log_forgets_steps_that_are_done_again(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    log = Log(file, 0)
    for step in range(1, 6):
        log.write({"step": step, "loss": step / 3})
    log.write({"step": 5, "validation_loss": 0.5})
    with file.open("a") as stream:
        stream.write('{"step": 6, "lo')  # killed here
    assert Log(file, 5).all("validation_loss") == [0.5]
    assert Log(file, 3).all("loss") == [1 / 3, 2 / 3, 1.0]
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]
