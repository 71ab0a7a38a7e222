"""What is encoded once and kept: whoever is stopped, whoever else works there."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.together import together
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.finetuning import latents, shards
from v2w_convert.finetuning.cache import ahead, make_once
from v2w_convert.finetuning.encoder import Encoder
from v2w_convert.finetuning.latents import cached_latents
from v2w_convert.finetuning.locks import held
from v2w_convert.finetuning.shards import write_tensors
from v2w_convert.processes import ALONE, Processes
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
        assert size == (9 + 3 + 7 + 12) * (4 * 8 * 8 * 2 + 3 * 4)  # latents of float16, actions of float32
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
        assert go.wait(60)
        (stage / "a").write_text("a")

    def told_of(event: ProgressEvent) -> None:
        told.append(event.detail)
        go.set()

    first = threading.Thread(target=make_once, args=(folder, slow, no_progress))
    first.start()
    assert begun.wait(60)
    make_once(folder, lambda stage: pytest.fail("made twice"), told_of)
    first.join()
    assert len(told) == 1 and "waiting" in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_processes_that_were_started_together_share_the_work(
    tiny_data: Path, tiny_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are those that one process writes, and each process has encoded some of the episodes."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 4000)  # episodes 0, 1 and 2, and 3
    encode, seen = Encoder.encode, []

    def count(self: Encoder, frames: object, number: int) -> torch.Tensor:
        seen.append(number)
        return encode(self, frames, number)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "encode", count)
    data, vae = open_dataset(tiny_data), open_vae(tiny_converted)

    def work(name: str, processes: Processes, dies: bool = False) -> object:
        def end(event: ProgressEvent) -> None:
            if dies and processes.index == 1 and event.done == 2:
                os._exit(9)

        clips = cached_latents(data, tiny_converted, tmp_path / name, vae, 6, end, processes=processes)
        return [seen, len(clips), clips.clips([0])[0].sum().item()]

    alone = work("alone", ALONE)
    seen.clear()
    a, b = together(2, tmp_path / "a", partial(work, "shared"))
    assert (a[0], b[0]) == ([0], [1, 2, 3]) and a[1:] == b[1:] == alone[1:]
    assert encoded(tmp_path / "shared") == encoded(tmp_path / "alone")
    # One is killed while it has the third of its episodes before it; what is written stays, and one process ends it.
    said, code = together(2, tmp_path / "b", partial(work, "killed", dies=True))
    assert code == 9 and "another one has ended" in said
    (begun,) = (tmp_path / "killed").glob(".*.begun")
    assert {file.name for file in begun.iterdir()} == {"00000.safetensors", "00001.safetensors"}
    work("killed", ALONE)
    assert seen == [3]
    assert encoded(tmp_path / "killed") == encoded(tmp_path / "alone")


def test_a_mistake_in_the_share_of_one_ends_all(
    tiny_data: Path, tiny_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 4000)
    vae = open_vae(tiny_converted)

    def work(processes: Processes) -> object:
        if processes.index == 1:
            monkeypatch.setattr(vae, "encode", lambda frames: torch.full((len(frames), 4, 8, 8), torch.nan))
        data, cache = open_dataset(tiny_data), tmp_path / "cache"
        return cached_latents(data, tiny_converted, cache, vae, 6, no_progress, processes=processes)

    said = together(2, tmp_path / "a", work)
    assert said[0] == said[1] and "episode 1 has latents that are not finite" in said[0]
    assert [file.name for file in (tmp_path / "cache").glob(".*.begun/*")] == ["00000.safetensors"]


def test_shards_of_other_episodes_are_refused(tiny_data: Path, tiny_converted: Path, tmp_path: Path) -> None:
    data, vae = open_dataset(tiny_data), open_vae(tiny_converted)
    clips = cached_latents(data, tiny_converted, tmp_path / "cache", vae, 6, no_progress)
    begun = clips.folder.with_name(f".{clips.folder.name}.begun")
    clips.folder.rename(begun)
    for name, tensors in (("00001", ["00000003.latents"]), ("00000", ["00000000.latents"])):
        (begun / f"{name}.safetensors").unlink(missing_ok=True)
        write_tensors(begun / f"{name}.safetensors", dict.fromkeys(tensors, torch.zeros(1)))
        with pytest.raises(V2WError, match=f"{name}.safetensors is not one of its files, .*delete that"):
            cached_latents(data, tiny_converted, tmp_path / "cache", vae, 6, no_progress)
        (begun / f"{name}.safetensors").unlink()


def test_a_shard_ends_with_the_episode_that_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 10)
    cut = [list(range(*each)) for each in ((0, 3), (3, 4), (4, 6))]
    assert [list(each) for each in shards.cut_into_shards([4, 0, 7, 11, 10, 0])] == cut
    assert shards.cut_into_shards([11, 0]) == [range(2)]  # of the last one nothing is written
    assert shards.cut_into_shards([0, 0]) == []


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    held_by = multiprocessing.get_context("fork").Event()
    child = os.fork()
    if child == 0:
        with held(tmp_path / "lock", lambda: None):
            held_by.set()
            time.sleep(600)
        os._exit(0)
    assert held_by.wait(60)
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
