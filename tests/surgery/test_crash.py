"""Whatever happens to `convert`: the output is absent or whole, the source is unchanged, and the next run writes the same.

Conversions run in forked children that are killed for good; what they do to the disk goes through these calls of `os`,
which the test counts, and it checks that nothing goes past them.
"""

import errno
import os
import random
import resource
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ACTIONS, tiny_unet
from v2w_convert.checkpoint.digests import file_digest, of_pieces
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.output import sha256
from v2w_convert.checkpoint.resumable import remove_leftovers
from v2w_convert.errors import V2WError
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.convert import Conversion, plan_conversion, write_conversion

WRITES = ("write", "pwrite", "copy_file_range")
CALLS = (*WRITES, "fsync", "rename", "mkdir", "open", "link", "unlink", "rmdir", "ftruncate")
Act = Callable[[str, Callable[..., Any], tuple[Any, ...]], None]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A forked child has none of its parent's threads, so it must not wait for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def planned(base: Path) -> Conversion:
    source = open_source(base)
    resolved = resolve(plan_for(source.class_name), source.config, source.scheduler)
    return plan_conversion(source, resolved, action_dim=ACTIONS)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }


class Ground:
    """A source, its conversion, and an empty folder for each try."""

    def __init__(self, base: Path, folder: Path):
        self.base, self.output = base, folder / "tries" / "out"
        self.output.parent.mkdir()
        self.conversion = planned(base)
        write_conversion(self.conversion, folder / "wanted")
        self.wanted, self.before = hashes(folder / "wanted"), hashes(base)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.output.parent))

    def check(self) -> bool:
        """Only the whole output and the hidden stage may exist; returns whether the output does."""
        assert set(self.names()) <= {"out", ".out.partial"}
        there = self.output.exists()
        if there:
            assert hashes(self.output) == self.wanted
        return there

    def again(self) -> None:
        """The next run writes what an undisturbed one writes, and leaves nothing else."""
        if self.output.exists():
            remove_leftovers(self.output)
        else:
            write_conversion(self.conversion, self.output)
        assert self.names() == ["out"]
        assert hashes(self.output) == self.wanted

    def clear(self) -> None:
        shutil.rmtree(self.output.parent)
        self.output.parent.mkdir()


@pytest.fixture
def ground(own_ground: Ground) -> Ground:
    own_ground.clear()
    return own_ground


@pytest.fixture(scope="module")
def own_ground(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("crash")
    shutil.copytree(tiny_base, folder / "base")
    return Ground(folder / "base", folder)


@contextmanager
def watched(act: Act, flush: bool = False) -> Iterator[None]:
    """`act(name, call, arguments)` before each call that changes the disk; flushing itself is left out."""
    real = {name: getattr(os, name) for name in CALLS}

    def watch(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name != "open" or arguments[1] & os.O_CREAT:
                act(name, real[name], arguments)
            if name == "fsync" and not flush:
                return None
            return real[name](*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, watch(name))
    try:
        yield
    finally:
        for name in CALLS:
            setattr(os, name, real[name])


def at(number: int, what: Act) -> Act:
    """`what` at the call of that number, counted over all threads."""
    count, lock = 0, threading.Lock()

    def act(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        nonlocal count
        with lock:
            count += 1
            if count == number:
                what(name, call, arguments)

    return act


def die(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_written(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if name in ("write", "pwrite"):
        call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
    elif name == "copy_file_range":
        call(*arguments[:2], arguments[2] // 2, *arguments[3:])
    die(name, call, arguments)


def forked(run: Callable[[], object]) -> int:
    """How a child that runs it ends: its exit code, or minus the signal that killed it; 3 for a V2WError."""
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except V2WError:
            os._exit(3)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def summarize(capsys: pytest.CaptureFixture[str], what: str) -> None:
    with capsys.disabled():
        print(f"\nconvert: {what}, violations 0")


def killed_everywhere(ground: Ground, what: Act, step: int = 1, prepare: Any = None, **options: Any) -> int:
    """Kill a run at every (`step`-th) call, check, and run again; returns how many calls there were."""
    whole = []
    for number in range(1, 10_000, step):
        if prepare:
            prepare()

        def run(number: int = number) -> None:
            with watched(at(number, what)):
                write_conversion(ground.conversion, ground.output, **options)

        code = forked(run)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        whole.append(ground.check())
        with watched(lambda *call: None):
            ground.again()
        ground.clear()
    ground.clear()
    assert {False, True} == set(whole)
    assert hashes(ground.base) == ground.before
    return len(whole)


@pytest.mark.slow
@pytest.mark.parametrize("what", [die, die_half_written])
def test_killed_at_every_call(ground: Ground, what: Act, capsys: pytest.CaptureFixture[str]) -> None:
    count = killed_everywhere(ground, what)
    assert count > 80
    summarize(capsys, f"killed at {count} calls ({what.__name__})")


def test_killed_at_every_fourth_call(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    count = killed_everywhere(ground, die_half_written, 4)
    assert count > 10
    summarize(capsys, f"killed at {count} calls (every fourth)")


@pytest.mark.slow
def test_killed_at_calls_while_it_resumes(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    def stop_half_way() -> None:
        def run() -> None:
            with watched(at(50, die)):
                write_conversion(ground.conversion, ground.output)

        assert forked(run) == -signal.SIGKILL

    count = killed_everywhere(ground, die, 2, stop_half_way)
    summarize(capsys, f"killed half-way and again at {count} calls of the next run")


@pytest.mark.slow
def test_killed_at_calls_with_links(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    """The next run is one without: it finds links to the source where it writes."""
    count = killed_everywhere(ground, die_half_written, 2, link=True)
    summarize(capsys, f"killed at {count} calls, with --link")


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty times, in a model of several shards and some tens of megabytes, with real flushing."""
    model = tiny_unet(block_out_channels=[96, 192], num_attention_heads=2, layers_per_block=1).half()
    model.save_pretrained(tmp_path / "base" / "unet", max_shard_size="5MB")
    (tmp_path / "base" / "model_index.json").write_text("{}")
    ground = Ground(tmp_path / "base", tmp_path)
    size = sum(item.size for item in ground.conversion.items)
    begun = time.perf_counter()
    write_conversion(ground.conversion, ground.output)
    took = time.perf_counter() - begun
    ground.clear()
    rng, killed, whole = random.Random(0), 0, 0
    while killed < 50:
        child = os.fork()
        if child == 0:
            try:
                write_conversion(ground.conversion, ground.output)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, took))
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        whole += ground.check()
        if rng.random() < 0.5:  # otherwise the next run resumes from what this one left
            ground.again()
        if ground.output.exists():
            ground.clear()
    ground.again()
    assert hashes(ground.base) == ground.before
    summarize(
        capsys, f"killed at {killed} random moments ({size / 1e6:.0f} MB, {whole} times the output was whole)"
    )


@pytest.mark.parametrize("samples", [3, pytest.param(80, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_at_any_byte(
    ground: Ground, samples: int, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = sorted({item.size for item in ground.conversion.items})
    rng = random.Random(0)
    limits = {0, *sizes, *(size - 1 for size in sizes), *(rng.randrange(sizes[-1]) for _ in range(samples))}
    failed = 0
    for limit in sorted(limits):

        def run(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            with watched(lambda *call: None):
                write_conversion(ground.conversion, ground.output)

        code = forked(run)
        assert code == (0 if limit >= sizes[-1] else 3), limit
        failed += code == 3
        assert ground.names() == (["out"] if code == 0 else [])
        ground.check()
        ground.clear()
    assert hashes(ground.base) == ground.before
    summarize(capsys, f"full at {failed} different bytes")


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, 10),
        pytest.param(errno.ENOSPC, 1, marks=pytest.mark.slow),
        pytest.param(errno.EIO, 1, marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fails_at_any_call(
    ground: Ground, number: int, step: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        if name not in ("unlink", "rmdir"):
            raise OSError(number, os.strerror(number))

    failed = 0
    for point in range(1, 10_000, step):
        seen: list[str] = []

        def fail_here(name: str, *call: Any, seen: list[str] = seen) -> None:
            seen.append(name)
            fail(name)

        try:
            with watched(at(point, fail_here)):
                write_conversion(ground.conversion, ground.output)
        except V2WError as error:
            failed += 1
            assert os.strerror(number) in str(error), seen
            assert ground.check() == ("complete and in place" in str(error)), seen
            if not ground.output.exists():
                assert ground.names() == [], seen
        else:
            # To make a folder that is there does not matter, nor does removing what is not.
            assert not seen or seen[0] in ("mkdir", "unlink", "rmdir")
            assert ground.check()
        ground.clear()
        if not seen:
            break
    assert hashes(ground.base) == ground.before
    assert failed > 60 // step
    summarize(capsys, f"{os.strerror(number)} at {failed} calls")


def test_everything_is_flushed_before_the_rename_and_every_write_is_watched(ground: Ground) -> None:
    """So that a kill between two watched calls is like one right before the second, and a power cut like a kill."""
    events: list[tuple[str, int]] = []
    written: dict[int, int] = {}
    lock = threading.Lock()

    def note(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        with lock:
            if name in WRITES:
                node = os.fstat(arguments[1 if name == "copy_file_range" else 0]).st_ino
                count = arguments[2] if name == "copy_file_range" else len(arguments[1])
                written[node] = written.get(node, 0) + count
                events.append(("write", node))
            elif name == "fsync":
                events.append(("fsync", os.fstat(arguments[0]).st_ino))
            elif name == "rename":
                events.append(("rename", 0))

    with watched(note):
        write_conversion(ground.conversion, ground.output)
    [put] = [index for index, event in enumerate(events) if event[0] == "rename"]
    for path in [ground.output, *ground.output.rglob("*")]:
        node = path.stat().st_ino
        last = max((i for i, event in enumerate(events) if event == ("write", node)), default=0)
        assert ("fsync", node) in events[last:put], path
        if path.is_file():
            assert written[node] == path.stat().st_size, path
    assert ("fsync", ground.output.parent.stat().st_ino) in events[put:]


# What the next run does


def left_by_a_kill(ground: Ground, call: int = 70, **options: Any) -> Path:
    def run() -> None:
        with watched(at(call, die)):
            write_conversion(ground.conversion, ground.output, **options)

    assert forked(run) == -signal.SIGKILL
    assert not ground.output.exists()
    return ground.output.parent / ".out.partial"


def made_of(file: Path) -> str:
    """What the journal says that a copy of `file` was made of."""
    return of_pieces([bytes.fromhex(file_digest(file).partition(":")[2])])


def big(ground: Ground, folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*.safetensors") if "vae" in file.parts]


def test_finished_files_are_not_written_again(ground: Ground) -> None:
    stage = left_by_a_kill(ground, 60)
    [finished] = big(ground, stage)
    before = finished.stat().st_ino, finished.stat().st_mtime_ns
    ground.again()
    [found] = big(ground, ground.output)
    assert (found.stat().st_ino, found.stat().st_mtime_ns) == before


@pytest.mark.parametrize("damage", ["bytes", "journal", "key", "source"])
def test_a_changed_file_is_written_again(ground: Ground, damage: str) -> None:
    stage = left_by_a_kill(ground, 60)
    [finished] = big(ground, stage)
    journal = stage / "journal"
    if damage == "bytes":
        finished.write_bytes(bytes(finished.stat().st_size))
    elif damage == "journal":
        journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0] + b'["torn')
    elif damage == "key":
        (stage / "result" / "of another plan").write_text("")
        journal.write_bytes(b'["another"]\n' + b"".join(journal.read_bytes().splitlines(keepends=True)[1:]))
    else:  # with the same size and times
        [origin] = big(ground, ground.base)
        content, times = origin.read_bytes(), origin.stat()
        finished.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        lines = journal.read_text()
        for digest in (file_digest, made_of):
            assert digest(origin) in lines
            lines = lines.replace(digest(origin), digest(finished))
        journal.write_text(lines)
        assert times.st_size == finished.stat().st_size
    before = finished.stat().st_mtime_ns
    ground.again()
    [found] = big(ground, ground.output)
    assert found.stat().st_mtime_ns != before


def test_a_stage_of_a_live_run_or_of_another_program_is_left_alone(ground: Ground) -> None:
    started, signal_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with watched(at(50, lambda *call: (os.close(started), os.close(signal_end), time.sleep(60))[0])):
                write_conversion(ground.conversion, ground.output)
        finally:
            os._exit(0)
    os.close(signal_end)
    os.read(started, 1)  # until the child closes its end, half-way
    os.close(started)
    stage = ground.output.parent / ".out.partial"
    files = hashes(stage)
    with pytest.raises(V2WError, match="another run is writing it"):
        write_conversion(ground.conversion, ground.output)
    assert hashes(stage) == files
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    ground.again()
    ground.clear()

    stage.mkdir()
    (stage / "theirs").write_text("keep")
    with pytest.raises(V2WError, match="exists and was not written by v2w"):
        write_conversion(ground.conversion, ground.output)
    assert (stage / "theirs").read_text() == "keep"


def test_a_source_that_changes_meanwhile_is_refused(ground: Ground) -> None:
    file = ground.base / "unet" / "diffusion_pytorch_model.safetensors"
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(V2WError, match="diffusion_pytorch_model.safetensors changed during the conversion"):
        write_conversion(ground.conversion, ground.output)
    assert ground.names() == []
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_file_modes_follow_the_umask(ground: Ground) -> None:
    before = os.umask(0o027)
    try:
        write_conversion(ground.conversion, ground.output)
    finally:
        os.umask(before)
    for path in [ground.output, *ground.output.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path
    ground.clear()
