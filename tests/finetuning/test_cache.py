"""What is encoded once and kept: whoever is stopped, whoever else works there."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.finetuning import latents, shards
from v2w_convert.finetuning.cache import ahead, make_once
from v2w_convert.finetuning.encoder import Encoder
from v2w_convert.finetuning.latents import cached_latents
from v2w_convert.finetuning.locks import held
from v2w_convert.finetuning.shards import write_tensors
from v2w_convert.progress import ProgressEvent, no_progress
from v2w_convert.world.vae import open_vae


class Stop(Exception):
    pass


def encoded(folder: Path) -> dict[str, bytes]:
    """The files of the one data set that was encoded into the cache."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("after", [2, 3])
def test_encoding_goes_on_with_the_shards_that_are_there(
    after: int, tiny_data: Path, tiny_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes of 9, 3, 7 and 12 frames; a shard for each but the second, which comes with the third."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 4000)
    data, vae = open_dataset(tiny_data), open_vae(tiny_converted)
    cached_latents(data, tiny_converted, tmp_path / "whole", vae, 6, no_progress)

    def stop(event: ProgressEvent) -> None:
        if event.done == after:
            raise Stop

    with pytest.raises(Stop):
        cached_latents(data, tiny_converted, tmp_path / "cache", vae, 6, stop)
    (begun,) = (tmp_path / "cache").glob(".*.begun")
    there = len(list(begun.iterdir()))
    assert there == after - 1
    (begun / ".v2w-12-ab.partial").write_text("half a shard")  # of a process that was killed
    seen = []
    encode = Encoder.encode

    def count(self: Encoder, frames: object, number: int) -> torch.Tensor:
        seen.append(number)
        return encode(self, frames, number)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "encode", count)
    cached_latents(data, tiny_converted, tmp_path / "cache", vae, 6, no_progress)
    assert seen == list(range(2 * there - 1, 4))
    assert encoded(tmp_path / "cache") == encoded(tmp_path / "whole")


def test_small_batches_give_the_same_latents(
    tiny_data: Path, tiny_converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device that has memory for three frames only."""
    vae = open_vae(tiny_converted)
    frames = open_dataset(tiny_data).first().frames
    expected = vae.encode(frames).half()
    encode, sizes = vae.encode, []

    def tight(some: object) -> torch.Tensor:
        sizes.append(len(some))  # type: ignore[arg-type]
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError
        return encode(some)  # type: ignore[arg-type]

    monkeypatch.setattr(vae, "encode", tight)
    encoder = Encoder(vae, "encode")
    torch.testing.assert_close(encoder.encode(frames, 0), expected, rtol=0, atol=1e-3)
    assert sizes == [9, 9, 9, 8, 4, 2, 2, 2, 2, 1] and encoder.batch == 2
    monkeypatch.setattr(vae, "encode", lambda some: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(V2WError, match="not enough memory to encode one frame of episode 7"):
        encoder.encode(frames, 7)


def test_no_room_is_told_before_a_shard_is_written(
    tiny_data: Path, tiny_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(folder: Path, size: int, asked: str, try_: str) -> None:
        assert size == (9 + 3 + 7 + 12) * 4 * 8 * 8 * 2  # all latent frames, float16
        raise V2WError(asked, "no room", try_)

    monkeypatch.setattr(latents, "require_room", none)
    with pytest.raises(V2WError, match=r"encode .*: no room \(try: a --cache on another disk\)"):
        cached_latents(
            open_dataset(tiny_data),
            tiny_converted,
            tmp_path / "cache",
            open_vae(tiny_converted),
            6,
            no_progress,
        )
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_one_waits(tmp_path: Path) -> None:
    folder, told = tmp_path / "made", []
    begun, go = threading.Event(), threading.Event()

    def slow(stage: Path) -> None:
        begun.set()
        assert go.wait(20)
        (stage / "a").write_text("a")

    def told_of(event: ProgressEvent) -> None:
        told.append(event.detail)
        go.set()

    first = threading.Thread(target=make_once, args=(folder, slow, no_progress))
    first.start()
    assert begun.wait(20)
    make_once(folder, lambda stage: pytest.fail("made twice"), told_of)
    first.join()
    assert len(told) == 1 and "waiting" in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    held_by = multiprocessing.get_context("fork").Event()
    child = os.fork()
    if child == 0:
        with held(tmp_path / "lock", lambda: None):
            held_by.set()
            time.sleep(60)
        os._exit(0)
    assert held_by.wait(20)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with held(tmp_path / "lock", lambda: pytest.fail("it is held")):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["made", ".made.begun"])
def test_links_out_of_a_cache_are_refused(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.tex").write_text("all my work")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).symlink_to(victim)
    with pytest.raises(V2WError, match="is a link to"):
        make_once(tmp_path / "cache/made", lambda stage: (stage / "a").write_text("a"), no_progress)
    assert [path.name for path in victim.iterdir()] == ["thesis.tex"]


def test_errors_of_items_made_ahead_arrive_in_order() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise Stop

    found = []
    with pytest.raises(Stop):
        for item in ahead(items()):
            found.append(item)
    assert found == [1, 2]
    assert list(ahead(iter([]))) == []


def test_files_follow_the_umask_and_are_read_back(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(3, dtype=torch.uint8),
        "a": torch.rand(2, 3).T,
        "c": torch.tensor(7, dtype=torch.int64),
        "d": torch.rand(5).half(),
        "e": torch.zeros(0, 2),
        "f": torch.tensor([True]),
    }
    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "x.safetensors", tensors)
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o640
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(read[name], value) and read[name].dtype == value.dtype
