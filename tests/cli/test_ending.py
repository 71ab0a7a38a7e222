"""Commands that are stopped, or that nobody listens to."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from v2w_convert.cli import COMMANDS
from v2w_convert.cli.ending import KEPT, NOTHING_KEPT

# `v2w …`, which sends itself a signal when so many events of progress have happened.
STOPPED = """
import os, signal, sys
from v2w_convert import console
from v2w_convert.cli import main

number, left = int(sys.argv.pop(1)), int(sys.argv.pop(1))
shown = console.show_progress

def show_progress(title):
    with shown(title) as progress:
        pass
    class Show:
        def __enter__(self):
            return count
        def __exit__(self, *error):
            return None
    def count(event):
        global left
        left -= event.task != "note"
        if left == 0:
            os.kill(os.getpid(), number)
    return Show()

console.show_progress = show_progress
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
main()
"""
OK = [sys.executable, "-m", "v2w_convert"]


def v2w(*arguments: object, prefix: list[str] = OK, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*prefix, *map(str, arguments)],
        text=True,
        env=environment,
        timeout=300,
        **{"capture_output": True, **options},
    )


def stopped(by: signal.Signals, events: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return v2w(*arguments, prefix=[sys.executable, "-c", STOPPED, str(int(by)), str(events)])


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The last line on standard error, which has no traceback."""
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.stderr.splitlines()[-1]


ENDINGS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
STEPS = ["--steps", 6, "--batch", 2, "--frames", 4, "--device", "cpu"]


@pytest.mark.parametrize(
    ("command", "by", "events"),
    [
        ("rollout", signal.SIGINT, 2),
        pytest.param("verify", signal.SIGTERM, 5, marks=pytest.mark.slow),
        pytest.param("evaluate", signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param("export", signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_command_says_that_nothing_was_written(
    command: str,
    by: signal.Signals,
    events: int,
    tiny_base: Path,
    tiny_converted: Path,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    data = ["--data", tiny_data]
    arguments = {
        "verify": [tiny_converted, "--base", tiny_base, "-o", tmp_path / "report"],
        "rollout": [tiny_converted, *data, "-o", tmp_path / "out.mp4", "--frames", 2, "--steps", 1],
        "evaluate": [tiny_converted, *data, "-o", tmp_path / "out.json", "--horizons", 1],
        "export": [tiny_converted, "-o", tmp_path / "out.onnx"],
    }[command]
    how, code = ENDINGS[by]
    done = stopped(by, events, command, *arguments)
    assert said(done) == f"v2w: {how}: {NOTHING_KEPT}"
    assert done.returncode == code
    assert not files(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_finetuning_writes_a_checkpoint_and_is_continued(
    by: signal.Signals, tiny_converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """The signal comes after step 2, so that step 3 is made; it would have no checkpoint before the last step."""
    run, other = tmp_path / "run", tmp_path / "other"
    arguments = ["finetune", tiny_converted, "--data", tiny_data, *STEPS]
    how, code = ENDINGS[by]
    done = stopped(by, 10, *arguments, "-o", run)
    assert (said(done), done.returncode) == (f"v2w: {how}: {KEPT['finetune']}", code)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-3"]
    assert not (run / "v2w.json").exists()
    for folder in (run, other):
        assert v2w(*arguments, "-o", folder).returncode == 0
    same = {name for name in files(other) if name.endswith(".safetensors") and "checkpoints" not in name}
    assert same
    assert {name: files(run)[name] for name in same} == {name: files(other)[name] for name in same}


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM])
def test_a_stopped_conversion_is_continued(by: signal.Signals, tiny_base: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    arguments = ["convert", tiny_base, "--action-dim", 3]
    how, code = ENDINGS[by]
    done = stopped(by, 2, *arguments, "-o", out)
    assert (said(done), done.returncode) == (f"v2w: {how}: {KEPT['convert']}", code)
    for folder in (out, other):
        assert v2w(*arguments, "-o", folder).returncode == 0
    assert files(out) == files(other)


def test_what_is_kept_is_said_of_commands_that_there_are() -> None:
    assert KEPT.keys() <= COMMANDS.keys()


@pytest.fixture
def unread() -> int:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_nobody_reads_what_is_printed(unread: int) -> None:
    for arguments, code in (
        (["--help"], 141),
        (["inspect", "--help"], 141),
        (["inspect", "nowhere", "--json"], 2),
    ):
        done = v2w(*arguments, stdout=unread, stderr=subprocess.PIPE, capture_output=False)
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == (code == 2)
    done = v2w("inspect", "nowhere", "--json", stderr=unread, stdout=subprocess.PIPE, capture_output=False)
    assert done.returncode == 2
    assert '"ok": false' in done.stdout


@pytest.mark.slow
def test_nobody_reads_a_result(tiny_base: Path, unread: int) -> None:
    done = v2w("inspect", tiny_base, "--json", stdout=unread, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 141
    assert "modules that the plan changes" in done.stderr
    assert "rror" not in done.stderr and "v2w:" not in done.stderr
    done = v2w("inspect", tiny_base, "--json", stderr=unread, stdout=subprocess.PIPE, capture_output=False)
    assert done.returncode == 0
    assert done.stdout.startswith("{")


def test_closed_and_full_outputs() -> None:
    command = f'"{sys.executable}" -m v2w_convert inspect nowhere --json'
    for closed in (">&-", "2>&-", ">/dev/full", "2>/dev/full"):
        done = v2w(prefix=["sh", "-c", f"{command} {closed}"])
        assert done.returncode == 2, closed
        assert "Traceback" not in done.stderr
