"""A disk that fills up at any output: exit 2 and one line, no stub, and what was there before stays.

A limit of the process on the size of a file makes every write beyond it fail, as a full disk does. Where a small file system
can be mounted, a disk that is full is tried, too.
"""

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hostile.conftest import contents
from v2w_convert.cli import run

FAST = ["--steps", 1, "--history", 2, "--device", "cpu"]
TRAIN = ["--steps", 2, "--batch", 1, "--frames", 3, "--device", "cpu"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes fails (Python ignores the signal)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def arguments(command: str, converted: Path, base: Path, data: Path, home: Path) -> list[object]:
    """A command whose only new files are those below `home`."""
    return {
        "rollout.mp4": ["rollout", converted, "--data", data, "-o", home / "a.mp4", "--frames", 9, *FAST],
        "rollout.gif": ["rollout", converted, "--data", data, "-o", home / "a.gif", "--frames", 9, *FAST],
        "rollout.png": ["rollout", converted, "--data", data, "-o", home / "a.png", "--frames", 9, *FAST],
        "evaluate": ["evaluate", converted, "--data", data, "-o", home / "a.json", "--samples", 1, "--horizons", 1,
                     "--long-frames", 0, *FAST],
        "evaluate.folder": ["evaluate", converted, "--data", data, "-o", home / "a", "--samples", 1, "--horizons", 1,
                            "--long-frames", 0, "--save-frames", *FAST],
        "export": ["export", converted, "-o", home / "a.onnx", "--frames", 1],
        "plan": ["plan", base, "-o", home / "a.yaml"],
        "verify": ["verify", converted, "-o", home / "report", "--budget", 0],
        "convert": ["convert", base, "-o", home / "out", "--action-dim", 3],
    }[command]  # fmt: skip


Fails = Callable[..., None]


@pytest.fixture
def fails(
    tiny_converted: Path, tiny_base: Path, tiny_data: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> Fails:
    """Runs a command on the tiny model: it must say why it stops in its last line, and change nothing below `home`."""

    def try_(command: str, mention: str, size: int = resource.RLIM_INFINITY) -> None:
        before = contents(home)
        typed = arguments(command, tiny_converted, tiny_base, tiny_data, home)
        capfd.readouterr()
        with largest_file(size):
            code = run([str(argument) for argument in typed])
        out, err = capfd.readouterr()
        assert (code, out) == (2, ""), err
        *said, line = err.splitlines()
        assert line.startswith("v2w: ") and mention in line and "partial" not in line, err
        assert len(said) <= (command == "verify"), err  # how long it will take
        assert contents(home) == before

    return try_


CASES = [
    ("rollout.png", 1000),
    ("rollout.mp4", 1000),
    ("rollout.gif", 20_000),
    pytest.param("evaluate", 1000, marks=pytest.mark.slow),
    pytest.param("evaluate.folder", 700, marks=pytest.mark.slow),  # a video
    pytest.param("evaluate.folder", 8000, marks=pytest.mark.slow),  # the page
    pytest.param("export", 50_000, marks=pytest.mark.slow),
    ("plan", 1000),
    pytest.param("verify", 1000, marks=pytest.mark.slow),
    pytest.param("verify", 12_000, marks=pytest.mark.slow),
    ("convert", 1000),
    ("convert", 100_000),
]


@pytest.mark.parametrize(("command", "size"), CASES)
def test_an_output_is_whole_or_not_there(command: str, size: int, home: Path, fails: Fails) -> None:
    (home / "report").mkdir()
    for name in ("report.json", "report.html", "summary.md"):
        (home / "report" / name).write_text("of an earlier run")
    fails(command, "File too large", size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 3000, 150_000, 500_000])
def test_a_training_stops_in_one_line_and_goes_on_later(
    size: int, tiny_converted: Path, tiny_data: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its caches, log, checkpoints and model: none is half there, and the same command finishes them."""
    command = [
        "finetune",
        str(tiny_converted),
        "--data",
        str(tiny_data),
        "-o",
        str(home / "run"),
        *map(str, TRAIN),
    ]
    with largest_file(size):
        code = run(command)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("v2w: ")]
    assert err.endswith(f"{line}\n") and "Traceback" not in err
    assert not [path for path in contents(home) if "partial" in path.name]
    assert run(command) == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["rollout.mp4", "rollout.gif", "rollout.png", "verify", "convert"])
def test_a_disk_that_is_full(command: str, home: Path, fails: Fails) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", home], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (home / "mine").write_bytes(bytes(48_000))
        fails(command, "bytes are needed" if command == "convert" else "No space left on device")
    finally:
        subprocess.run(["umount", home], check=True)
