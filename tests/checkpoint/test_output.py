import errno
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from v2w_convert.checkpoint import output
from v2w_convert.checkpoint.headers import DTYPES, read_header
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.output import copy_content, sha256, staging_folder, write_safetensors
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.errors import V2WError


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below `folder`, hidden files too: the bytes of files, None for folders."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


# staged


def test_the_folder_appears_whole_when_the_block_ends(tmp_path, umask):
    target = tmp_path / "out"
    with staging_folder(target) as stage:
        assert stage.parent == tmp_path
        assert stage.name.startswith(f".out.partial-{os.getpid()}-")
        (stage / "unet").mkdir()
        (stage / "unet" / "a").write_bytes(b"a")
        assert not target.exists()
    assert tree(tmp_path) == {"out": None, "out/unet": None, "out/unet/a": b"a"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o777 & ~umask


def test_missing_parents_are_created(tmp_path):
    with staging_folder(tmp_path / "a" / "b" / "out") as stage:
        (stage / "file").touch()
    assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/out": None, "a/b/out/file": b""}


def test_an_empty_folder_or_a_link_to_one_may_exist(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with staging_folder(tmp_path / "link") as stage:
        (stage / "file").touch()
    assert tree(tmp_path / "empty") == {"file": b""}
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
@pytest.mark.parametrize("there", [True, False])
def test_any_exception_leaves_nothing_behind(error, there, tmp_path):
    target = tmp_path / "a" / "b" / "out"
    if there:
        target.mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(error), staging_folder(target) as stage:
        (stage / "unet").mkdir()
        (stage / "unet" / "a").write_bytes(b"a")
        raise error
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("number", "on_folders"), [(errno.EIO, True), (errno.EIO, False), (errno.EINVAL, False)]
)
def test_a_failing_disk_leaves_nothing_and_is_reported_in_one_line(number, on_folders, tmp_path, monkeypatch):
    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == on_folders:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    found = rf"write .*out: .*{os.strerror(number)}"
    with pytest.raises(V2WError, match=found), staging_folder(tmp_path / "out") as stage:
        (stage / "a").touch()
    assert tree(tmp_path) == {}


def test_a_parent_used_by_others_meanwhile_is_kept(tmp_path):
    with pytest.raises(ValueError, match="oh"), staging_folder(tmp_path / "a" / "out"):
        (tmp_path / "a" / "theirs").touch()
        raise ValueError("oh")
    assert tree(tmp_path) == {"a": None, "a/theirs": b""}


def refused(folder: Path, found: str, source: Path | None = None) -> None:
    with pytest.raises(V2WError, match=found), staging_folder(folder, source):
        pytest.fail("the block was entered")


def test_a_folder_in_use_is_refused_at_once(tmp_path):
    (tmp_path / "full" / "sub").mkdir(parents=True)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".file").touch()
    (tmp_path / "file").touch()
    before = tree(tmp_path)
    refused(tmp_path / "full", "already exists and is not empty")
    refused(tmp_path / "hidden", "already exists and is not empty")
    refused(tmp_path / "file", "it is a file")
    refused(tmp_path / "file" / "out", "Not a directory")
    refused(tmp_path / ("x" * 300), "File name too long")
    refused(Path("/"), "root of a file system")
    assert tree(tmp_path) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which not even root may write")
def test_an_unwritable_parent_is_refused_at_once():
    refused(Path("/proc/self/out"), "write /proc/.*: .*'/proc/")
    refused(Path("/proc/self/none/out"), "write /proc/.*: .*'/proc/")


def test_the_source_or_a_folder_in_it_is_refused_as_output(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "link").symlink_to("source")
    for folder in (
        source,
        source / "out",
        source / "a" / "out",
        tmp_path / "link" / "out",
        source / "a" / ".." / "b",
    ):
        refused(folder, "it is inside the source", source)
    refused(source / "out", "it is inside the source", tmp_path / "link")
    with staging_folder(tmp_path / "source2", source):  # a name that only starts alike
        pass
    assert tree(tmp_path) == {"link": None, "source": None, "source2": None}


def test_a_folder_created_meanwhile_is_not_replaced(tmp_path):
    with (
        pytest.raises(V2WError, match="cannot be put in place: Directory not empty"),
        staging_folder(tmp_path / "out") as stage,
    ):
        (stage / "mine").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
    assert tree(tmp_path) == {"out": None, "out/theirs": b""}
    with (
        pytest.raises(V2WError, match="cannot be put in place: Not a directory"),
        staging_folder(tmp_path / "two") as stage,
    ):
        (stage / "mine").touch()
        (tmp_path / "two").write_bytes(b"theirs")
    assert tree(tmp_path) == {"out": None, "out/theirs": b"", "two": b"theirs"}


def test_two_at_once_do_not_disturb_each_other(tmp_path):
    with pytest.raises(V2WError, match="cannot be put in place"), staging_folder(tmp_path / "out") as one:
        (one / "one").touch()
        with staging_folder(tmp_path / "out") as two:
            (two / "two").touch()
    assert tree(tmp_path) == {"out": None, "out/two": b""}


def test_everything_reaches_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order: list[object] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.fstat(fd).st_ino), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda *names: (order.append("rename"), rename(*names))[1])
    target = tmp_path / "a" / "b" / "out"
    with staging_folder(target) as stage:
        (stage / "unet").mkdir()
        (stage / "unet" / "x").touch()
        (stage / "y").touch()
    before, after = order[: order.index("rename")], order[order.index("rename") + 1 :]
    made = (target, target / "unet", target / "unet" / "x", target / "y")
    assert sorted(before, key=str) == sorted((path.stat().st_ino for path in made), key=str)
    assert after == [path.stat().st_ino for path in (tmp_path / "a" / "b", tmp_path / "a", tmp_path)]


def test_a_file_system_that_cannot_sync_folders_is_tolerated(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    with staging_folder(tmp_path / "out") as stage:
        (stage / "a").touch()
    assert tree(tmp_path) == {"out": None, "out/a": b""}


CHILD = """
import os, resource, signal, sys
from pathlib import Path
from v2w_convert.checkpoint.output import staging_folder
from v2w_convert.errors import V2WError
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may have inherited none
try:
    with staging_folder(Path("parent/out")) as stage:
        (stage / "a").write_bytes(b"a" * 1000)
        {what}
        (stage / "b").write_bytes(b"b" * 10_000_000)
except V2WError as error:
    sys.exit(f"one line: {{error}}")
"""


def run(what: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CHILD.format(what=what)], cwd=folder, capture_output=True, text=True
    )


def test_a_signal_leaves_nothing_behind(tmp_path):
    child = run("os.kill(os.getpid(), signal.SIGINT)", tmp_path)
    assert child.returncode == -signal.SIGINT
    assert tree(tmp_path) == {}


def test_a_full_disk_leaves_nothing_and_is_reported_in_one_line(tmp_path):
    child = run("resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))", tmp_path)
    assert (child.returncode, tree(tmp_path)) == (1, {})
    assert child.stderr.startswith("one line: write parent/out: ") and "File too large" in child.stderr
    assert child.stderr.count("\n") == 1


def test_after_a_kill_there_is_no_output_and_the_stage_explains_itself(tmp_path):
    child = run("os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert child.returncode == -signal.SIGKILL
    [stage] = (tmp_path / "parent").iterdir()
    assert stage.name.startswith(".out.partial-")
    with staging_folder(tmp_path / "parent" / "out") as again:  # the rest is not in the way
        (again / "file").touch()
    assert tree(tmp_path / "parent" / "out") == {"file": b""}


def write_tiny(folder: Path) -> None:
    with staging_folder(folder) as stage:
        (stage / "config.json").write_text("{}")
        write_safetensors(stage / "a", iter([("a", torch.zeros(3))]), [("a", "F32", (3,))], {})


def at_line(number: int, act):
    """Run `act` just before the `number`-th line that output.py executes from now on."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename != output.__file__:
            return None
        count += event == "line"
        if event == "line" and count == number:
            act()
        return trace

    sys.settrace(trace)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_line_leaves_nothing_or_all(tmp_path):
    write_tiny(tmp_path / "wanted")
    all_of_it, before, outcomes = tree(tmp_path / "wanted"), tree(tmp_path), []

    def interrupt():
        raise KeyboardInterrupt

    for number in range(1, 1000):
        try:
            at_line(number, interrupt)
            write_tiny(tmp_path / "parent" / "out")
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(None)
        outcomes.append((tmp_path / "parent").exists())
        if outcomes[-1]:
            assert tree(tmp_path / "parent" / "out") == all_of_it
            shutil.rmtree(tmp_path / "parent")
        assert tree(tmp_path) == before
    assert outcomes == sorted(outcomes) and {False, True} == set(outcomes)


def test_a_kill_at_any_line_leaves_no_output_or_all_of_it(tmp_path):
    write_tiny(tmp_path / "wanted")
    all_of_it, outcomes = tree(tmp_path / "wanted"), []
    for number in range(1, 1000):
        child = os.fork()
        if child == 0:
            at_line(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            write_tiny(tmp_path / "out")
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
        outcomes.append((tmp_path / "out").exists())
        if outcomes[-1]:
            assert tree(tmp_path / "out") == all_of_it
            shutil.rmtree(tmp_path / "out")
    assert outcomes == sorted(outcomes) and {False, True} == set(outcomes)


# write_safetensors


def infos_of(tensors: dict[str, torch.Tensor]) -> list[tuple[str, str, tuple[int, ...]]]:
    spelling = {f"torch.{dtype.torch}": name for name, dtype in DTYPES.items()}
    return [(name, spelling[str(tensor.dtype)], tuple(tensor.shape)) for name, tensor in tensors.items()]


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """One of every dtype, one empty, one scalar; in the library's own order."""
    generator = torch.Generator().manual_seed(0)

    def random(dtype: torch.dtype) -> torch.Tensor:
        bits = torch.randint(256, (15 * dtype.itemsize,), dtype=torch.uint8, generator=generator)
        return (bits % 2 if dtype == torch.bool else bits).view(dtype).reshape(3, 5)

    made = {f"é {name}": random(getattr(torch, dtype.torch)) for name, dtype in DTYPES.items() if dtype.torch}
    made["scalar"] = torch.tensor(float("nan"), dtype=torch.bfloat16)
    made["empty"] = torch.zeros(3, 0, 2, dtype=torch.float16)
    return made


def test_the_file_equals_the_one_safetensors_writes(tensors, tmp_path):
    save_file(tensors, tmp_path / "library", {"format": "pt"})
    ordered = {name: tensors[name] for name in read_header(tmp_path / "library")}
    write_safetensors(tmp_path / "ours", iter(ordered.items()), infos_of(ordered), {"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()
    save_file(tensors, tmp_path / "library")
    write_safetensors(tmp_path / "bare", iter(ordered.items()), infos_of(ordered), {})
    assert (tmp_path / "bare").read_bytes() == (tmp_path / "library").read_bytes()


def test_any_order_is_kept_and_loads_bit_for_bit(tensors, tmp_path):
    file = tmp_path / "a.safetensors"
    mixed = dict(sorted(tensors.items(), key=lambda item: hashlib.sha256(item[0].encode()).digest()))
    write_safetensors(file, iter(mixed.items()), infos_of(mixed), {"b": "é", "a": "\n"})
    infos, loaded = read_header(file), load_file(file)
    assert list(infos) == list(mixed)
    assert min(info.start for info in infos.values()) % 8 == 0
    for name, tensor in mixed.items():
        for read in (read_tensor(infos[name]), loaded[name]):
            assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
            assert read.flatten().view(torch.uint8).tolist() == tensor.flatten().view(torch.uint8).tolist()
    with safe_open(file, "pt") as library:
        assert library.metadata() == {"b": "é", "a": "\n"}


def test_strides_gradients_and_shared_storage_do_not_matter(tmp_path):
    big = torch.arange(24.0).reshape(4, 6)
    odd = {
        "t": big.T,
        "slice": big[1:3, 2:],
        "expand": big[:1, :1].expand(3, 3),
        "grad": big.clone().requires_grad_(),
    }
    write_safetensors(tmp_path / "a", iter(odd.items()), infos_of(odd), {})
    loaded = load_file(tmp_path / "a")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in odd.items())


def test_an_empty_set_of_tensors_is_written(tmp_path):
    write_safetensors(tmp_path / "a", iter(()), [], {})
    assert load_file(tmp_path / "a") == read_header(tmp_path / "a") == {}


def test_one_tensor_is_held_at_a_time(tmp_path):
    def one_by_one():
        for name in "abc":
            memory = np.ones((2, 2), np.float32)
            alive = weakref.ref(memory)
            pair = [(name, torch.from_numpy(memory))]
            del memory
            yield pair.pop()
            assert alive() is None, f"{name} is still held"

    write_safetensors(tmp_path / "a", one_by_one(), [(name, "F32", (2, 2)) for name in "abc"], {})
    assert list(read_header(tmp_path / "a")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("given", "announced", "message"),
    [
        ("a", [("b", "F32", (2,))], "expected .'b'.* found .'a'"),
        ("a", [("a", "F16", (2,))], "torch.float16.* found .*torch.float32"),
        ("a", [("a", "F32", (1, 2))], "1, 2.* found "),
        ("a", [("a", "F4", (4,))], "torch.None.* found "),
        ("a", [], "expected .'nothing more'.* found .'a'"),
        ("a", [("a", "F32", (2,)), ("b", "F32", (2,))], "expected .'b'.* found nothing"),
        ("ba", [("a", "F32", (2,)), ("b", "F32", (2,))], "expected .'a'.* found .'b'"),
        ("", [("a", "F32", (2,)), ("a", "F32", (2,))], "a is given twice"),
    ],
)
def test_a_tensor_that_was_not_announced_is_an_internal_error(given, announced, message, tmp_path):
    with pytest.raises(AssertionError, match=message):
        write_safetensors(tmp_path / "file", ((name, torch.zeros(2)) for name in given), announced, {})


def test_a_file_is_never_written_over(tmp_path):
    (tmp_path / "a").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        write_safetensors(tmp_path / "a", iter(()), [], {})
    assert (tmp_path / "a").read_bytes() == b"theirs"


def test_modes_follow_the_umask(tmp_path, umask):
    write_safetensors(tmp_path / "a", iter(()), [], {})
    (tmp_path / "a").chmod(0o400)
    copy_content(tmp_path / "a", tmp_path / "sub" / "b")
    write_safetensors(tmp_path / "c", iter(()), [], {})
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("sub/b", "c")] == [0o666 & ~umask] * 2


def test_the_file_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        output.os, "fsync", lambda fd: synced.append((os.fstat(fd).st_ino, os.fstat(fd).st_size))
    )
    write_safetensors(tmp_path / "a", iter([("a", torch.zeros(3))]), [("a", "F32", (3,))], {})
    assert synced == [((tmp_path / "a").stat().st_ino, (tmp_path / "a").stat().st_size)]


# copy, sha256, and all of it together


def test_a_link_is_copied_by_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    copy_content(tmp_path / "link", tmp_path / "x" / "y" / "b")
    assert (tmp_path / "x" / "y" / "b").read_bytes() == b"content"
    assert not (tmp_path / "x" / "y" / "b").is_symlink()


def test_sha256_equals_hashlibs(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_a_checkpoint_is_copied_unchanged(kind, saved, tmp_path, tiny_unet):
    source = open_source(saved / kind)
    with staging_folder(tmp_path / "out", saved / kind) as stage:
        copy_content(source.folder / "config.json", stage / "config.json")
        write_safetensors(
            stage / "diffusion_pytorch_model.safetensors",
            ((name, read_tensor(info)) for name, info in source.tensors.items()),
            [(name, info.dtype, info.shape) for name, info in source.tensors.items()],
            {"format": "pt"},
        )
    loaded = type(tiny_unet).from_pretrained(tmp_path / "out").state_dict()
    assert loaded.keys() == tiny_unet.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny_unet.state_dict().items())
