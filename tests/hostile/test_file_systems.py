"""55 to 64: where a model is read from and written to. Crashes and full disks at every byte are the crash tests' matter."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.conftest import MODEL, Refused
from v2w_convert.checkpoint import content
from v2w_convert.surgery import convert as surgery


def deep(base: Path) -> Path:
    """A model folder with folders nested more deeply than calls can be."""
    here = os.getcwd()
    os.chdir(base)
    try:
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    return base


OUTPUTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "55 the source itself": (lambda base: base, "it is inside the source"),
    "55 in the source": (lambda base: base / "out", "it is inside the source"),
    "55 in the source by a link": (lambda base: linked(base) / "out", "it is inside the source"),
    "55 in the source by dots": (lambda base: base.parent / "x" / ".." / "base" / "out", "it is inside the source"),
    "56 a folder that is not empty": (lambda base: full(base.parent / "out"), "not empty"),
    "56 a file": (lambda base: file(base.parent / "out"), "it is a file"),
    "56 a pipe": (lambda base: pipe(base.parent / "out"), "it is a file"),
    "58 below a file": (lambda base: file(base.parent / "file") / "out", "Not a directory"),
    "58 where nobody can write": (lambda base: Path("/proc/none/out"), "/proc/none/out"),
    "58 a name too long": (lambda base: base.parent / ("x" * 300), "File name too long"),
    "58 the root": (lambda base: Path("/"), "root of a file system"),
}  # fmt: skip


def linked(base: Path) -> Path:
    (base.parent / "link").symlink_to(base)
    return base.parent / "link"


def full(folder: Path) -> Path:
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    return folder


def file(path: Path) -> Path:
    path.write_text("keep")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("case", OUTPUTS)
def test_an_unusable_output_is_refused(case: str, plain: Path, refused: Refused) -> None:
    output, mention = OUTPUTS[case]
    refused("convert", plain, "-o", output(plain), "--action-dim", 3, mentions=[mention])


def test_57_a_full_disk_is_refused(plain: Path, refused: Refused) -> None:
    """RLIMIT_FSIZE: the write beyond fails. In a process of its own, for the limit cannot be taken back."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from v2w_convert.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    arguments = ["convert", str(plain), "-o", str(plain.parent / "out"), "--action-dim", "3"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("v2w: write ") and done.stderr.count("\n") == 1
    assert [path.name for path in plain.parent.iterdir()] == ["base"]


@pytest.mark.slow
def test_59_a_base_that_changed_since_is_refused(
    plain: Path, refused: Refused, converts: Callable[..., str]
) -> None:
    """Nothing is kept between `plan` and `convert` that could be stale: a plan is of a class, not of weights. What a
    finished output was made of is known by its hash, whatever the clock says (64)."""
    out = plain.parent / "out"
    converts("convert", plain, "-o", out, "--action-dim", 3)
    weights = plain / MODEL
    before = weights.stat()
    os.utime(weights)
    assert "already converted" in converts("convert", plain, "-o", out, "--action-dim", 3)
    with weights.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x42")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    refused("convert", plain, "-o", out, "--action-dim", 3, mentions=["another plan, source or option"])
    assert "The base is the one that was converted" in converts("verify", out, "--base", plain, code=1)


def test_60_an_output_of_a_faster_process_is_not_replaced(
    plain: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = plain.parent / "out"
    writes = surgery.write_file  # the manifest: the last file

    def first(*arguments: object) -> None:
        writes(*arguments)  # type: ignore[arg-type]
        if not out.exists():
            full(out)

    monkeypatch.setattr(surgery, "write_file", first)
    with pytest.raises(AssertionError):  # only that folder is new
        refused("convert", plain, "-o", out, "--action-dim", 3)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert sorted(path.name for path in plain.parent.iterdir()) == ["base", "out"]


def test_62_modes_follow_the_umask(plain: Path, converts: Callable[..., str]) -> None:
    out = plain.parent / "out"
    before = os.umask(0o027)
    try:
        converts("convert", plain, "-o", out, "--action-dim", 3)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o640}, modes


def test_63_a_file_truncated_while_it_is_read_is_refused(
    plain: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that gives fewer bytes than it reported."""
    header = content.read_header

    def longer(file: Path) -> dict:
        found = header(file)
        name = max(found, key=lambda key: found[key].stop)
        info = found[name]
        size = info.stop - info.start
        return found | {name: type(info)(info.dtype, info.shape, file, info.start + 8, info.start + 8 + size)}

    monkeypatch.setattr(content, "read_header", longer)
    refused(
        "convert",
        plain,
        "-o",
        plain.parent / "out",
        "--action-dim",
        3,
        mentions=[MODEL, "it now ends before byte"],
    )


def test_deeply_nested_folders_are_handled(plain: Path, converts: Callable[..., str]) -> None:
    """Accepted, however deep."""
    try:
        converts("inspect", deep(plain))
    finally:
        subprocess.run(["rm", "-rf", str(plain)], check=True)


BASES: dict[str, Callable[[Path], Path]] = {
    "nothing": lambda home: home / "none",
    "a pipe": lambda home: pipe(home / "base"),
    "a device": lambda home: Path("/dev/zero"),
    "a link to itself": lambda home: loop(home / "base"),
    "an empty folder": lambda home: made(home / "base"),
    "a name with an escape sequence": lambda home: home / "\x1b[31m\nbase",
    "a name too long": lambda home: home / ("x" * 300),
}


def loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("case", BASES)
def test_an_unusable_base_is_refused(case: str, home: Path, refused: Refused) -> None:
    base = BASES[case](home)
    refused("convert", base, "-o", home / "out", "--action-dim", 3)
    refused("inspect", base)
    refused("plan", base, "-o", home / "plan.yaml")


@pytest.mark.parametrize("name", ["config.json", MODEL])
@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir, loop])
def test_a_model_file_that_is_not_a_file_is_refused(
    name: str, kind: Callable[[Path], object], plain: Path, refused: Refused
) -> None:
    (plain / name).unlink()
    kind(plain / name)
    refused("convert", plain, "-o", plain.parent / "out", "--action-dim", 3, mentions=[name])


def test_a_pipe_among_the_other_files_is_not_opened(
    tiny_base: Path, home: Path, converts: Callable[..., str]
) -> None:
    """Accepted: what is no file is not copied, and nothing waits for it."""
    base = shutil.copytree(tiny_base, home / "base")
    os.mkfifo(base / "vae" / "pipe")
    converts("convert", base, "-o", home / "out", "--action-dim", 3)
    assert not (home / "out" / "vae" / "pipe").exists()
