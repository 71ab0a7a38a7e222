"""Bad input is tried through the command line; the same must hold for all of it.

Numbers of cases are those of the list in docs/hostile-input.md.
"""

import hashlib
import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_unet
from v2w_convert.cli import run

TRIED: Counter[str] = Counter()  # the outcome of every input
Refused = Callable[..., str]
MODEL = "diffusion_pytorch_model.safetensors"
INDEX = f"{MODEL}.index.json"


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    if TRIED:
        failed = [report for report in terminalreporter.stats.get("failed", []) if "hostile" in report.nodeid]
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(TRIED.items()))
        terminalreporter.write_line(
            f"hostile input: {TRIED.total()} inputs tried ({kinds}), violations {len(failed)}"
        )


def contents(folder: Path) -> dict[Path, str]:
    """Every path below, with a hash of what it holds; pipes and devices are not opened."""
    found, waiting = {}, [folder]
    while waiting:  # not by recursion: folders may be nested more deeply than calls
        for path in waiting.pop().iterdir():
            found[path] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
            waiting += [path] if path.is_dir() and not path.is_symlink() else []
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder in which bad input is made; whatever a command does, it must not change."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Warnings that libraries log during the test."""
    handler = _Log()
    loggers = [logging.getLogger(), logging.getLogger("diffusers")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler.messages
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture
def refused(home: Path, logged: list[str], capfd: pytest.CaptureFixture[str]) -> Refused:
    """Runs `v2w …`, which must end with exit 2 and one line that contains all the `mentions`; returns the line.

    Nothing below `home` may change, and no library may log or print anything.
    """

    def try_(*arguments: object, mentions: list[str] | tuple[str, ...] = ()) -> str:
        before = contents(home)
        capfd.readouterr()
        logged.clear()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert code == 2, (code, out, err)
        assert err.startswith("v2w: ") and err.endswith("\n") and err.count("\n") == 1, err
        line = err.removesuffix("\n")
        assert line.isprintable(), line
        assert len(line) < 6000
        assert not out
        assert not warned, [str(warning.message) for warning in warned]
        assert not logged
        assert contents(home) == before
        for mention in mentions:
            assert mention in line, (mention, line)
        TRIED["refused by a command"] += 1
        return line

    return try_


@pytest.fixture
def converts(home: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `v2w …`, which must succeed; returns what it printed."""

    def try_(*arguments: object, code: int = 0) -> str:
        capfd.readouterr()
        assert run([str(argument) for argument in arguments]) == code, capfd.readouterr().err
        out, err = capfd.readouterr()
        TRIED["accepted, as its case says" if code == 0 else "found by verify"] += 1
        return out + err

    return try_


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain` and `sharded` model folders in float32; do not write there."""
    root = tmp_path_factory.mktemp("whole")
    model = tiny_unet()
    model.save_pretrained(root / "plain")
    model.save_pretrained(root / "sharded", max_shard_size="300KB")
    return root


@pytest.fixture
def plain(whole: Path, home: Path) -> Path:
    """A model folder with one weight file, to spoil."""
    return shutil.copytree(whole / "plain", home / "base")


@pytest.fixture
def sharded(whole: Path, home: Path) -> Path:
    """A model folder with an index and several shards, to spoil."""
    return shutil.copytree(whole / "sharded", home / "base")


@pytest.fixture
def converted(tiny_converted: Path, home: Path) -> Path:
    """A converted folder, to spoil."""
    return shutil.copytree(tiny_converted, home / "converted")


@pytest.fixture(scope="session")
def lvdm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole single-file checkpoint that torch.save wrote."""
    from tests import lvdm

    torch.manual_seed(0)
    tensors = lvdm.checkpoint(lvdm.tiny_denoiser().state_dict())
    return lvdm.save(tensors, tmp_path_factory.mktemp("lvdm") / "model.ckpt")
