"""Small files that would take gigabytes: refused within bounds of memory, in processes of their own."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hostile.conftest import TRIED
from tests.hostile.datasets import Spoil
from tests.hostile.datasets.tables import at
from tests.hostile.datasets.videos import encoded
from tests.hostile.datasets.whole import (
    CAMERA,
    DATA,
    EPISODES,
    FPS,
    INFO,
    TASKS,
    VIDEO,
    column,
    content,
    info,
    table,
    write,
)
from tests.hostile.test_datasets import assert_documented
from tests.speed import seconds_here

MEGABYTES, SECONDS = 700, 10
# The peak of resident memory is read from /proc: that of getrusage may be the parent's.
MEASURED = """
import resource, sys, time
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError
import v2w_convert.data.formats.lerobot
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
begun = time.process_time()
code = 0
try:
    data = open_dataset(sys.argv[1])
    data.tasks, data.action_names
    for episode in data.episodes():
        pass
except V2WError as error:
    code = 2
    print(str(error), file=sys.stderr)
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
print(code, time.process_time() - begun, peak)
"""


def rows(file: str, count: int) -> Spoil:
    """So many rows that take next to nothing on disk."""

    def spoil(folder: Path) -> None:
        some = 2_000_000
        columns = {field.name: constant(field.type, some) for field in pq.read_schema(folder / file)}
        with pq.ParquetWriter(folder / file, pa.table(columns).schema, compression="zstd") as writer:
            for _ in range(count // some):
                writer.write_table(pa.table(columns), row_group_size=some)

    return spoil


def constant(type_: pa.DataType, count: int) -> pa.Array:
    if pa.types.is_string(type_):
        return pa.array(["x"]).dictionary_encode().take(pa.array(np.zeros(count, np.int64)))
    if pa.types.is_list(type_):
        return pa.array([["x"]] * count)
    return pa.array(np.zeros(count)).cast(type_)


def listed_rows(folder: Path) -> None:
    """3 million rows in 200 KB, all of one episode, as the list and the description say; the video has 16 frames."""
    count = 3_000_000
    columns = {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * count, np.float32)), 2),
        "timestamp": pa.array(np.arange(count) / FPS),
        **{name: pa.array(np.zeros(count, np.int64)) for name in ("episode_index", "task_index")},
        **{name: pa.array(np.arange(count)) for name in ("frame_index", "index")},
    }
    pq.write_table(pa.table(columns), folder / DATA, compression="zstd", column_encoding={
        "timestamp": "BYTE_STREAM_SPLIT", "frame_index": "DELTA_BINARY_PACKED", "index": "DELTA_BINARY_PACKED"
    }, use_dictionary=False)  # fmt: skip
    table(EPISODES, lambda whole: whole.slice(0, 1))(folder)
    for name, value in (("length", count), ("dataset_to_index", count)):
        column(EPISODES, name, at(0, value))(folder)
    column(EPISODES, f"videos/{CAMERA}/to_timestamp", at(0, count / FPS))(folder)
    info("total_episodes", to=1)(folder)
    info("total_frames", to=count)(folder)


def one_row(folder: Path) -> None:
    """An action of 20 million numbers in one row."""
    values = pa.array(np.zeros(20_000_000, np.float32))
    ends = [0, *range(2, 32, 2), len(values)]
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
    whole = pq.read_table(folder / DATA)
    whole = whole.set_column(whole.column_names.index("action"), "action", lists)
    pq.write_table(whole, folder / DATA, compression="zstd")


def long_texts(folder: Path) -> None:
    """A text of 100 MB, to which ten thousand rows point."""
    texts = pa.array(["x" * 100_000_000]).dictionary_encode().take(pa.array(np.zeros(10_000, np.int64)))
    pq.write_table(
        pa.table({"task_index": np.arange(10_000), "task": texts}), folder / TASKS, compression="zstd"
    )


def swelling_texts(folder: Path) -> None:
    """Texts that each begin as the one before, 300 KB, and have a letter more."""
    texts = ["x" * 300_000 + "y" * i for i in range(300)]
    pq.write_table(
        pa.table({"task_index": np.arange(300), "task": texts}), folder / TASKS, compression="zstd",
        use_dictionary=False, column_encoding={"task": "DELTA_BYTE_ARRAY"},
    )  # fmt: skip


def footer(change: Callable[[bytes], bytes]) -> Spoil:
    """Replaces the footer of the data file."""

    def spoil(whole: bytes) -> bytes:
        length = int.from_bytes(whole[-8:-4], "little")
        changed = change(whole[-8 - length : -8])
        return whole[: -8 - length] + changed + struct.pack("<I", len(changed)) + b"PAR1"

    return content(DATA, spoil)


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def list_of(count: int, element: bytes) -> bytes:
    """A list of structs in thrift's compact protocol."""
    return b"\xfc" + varint(count) + element * count


VERSION, NO_ROWS = b"\x15\x02", b"\x16\x00"
SCHEMA = b"\x19" + list_of(2, b"\x48\x01s\x15\x02\x00")
MANY_CHUNKS = (
    VERSION
    + SCHEMA
    + NO_ROWS
    + b"\x19"
    + list_of(1, b"\x19" + list_of(10_000_000, b"\x26\x00\x00") + b"\x26\0\x16\0\0")
    + b"\0"
)
MANY_GROUPS = (
    VERSION + SCHEMA + NO_ROWS + b"\x19" + list_of(4_500_000, b"\x19\x0c\x16\x00\x16\x00\x00") + b"\0"
)
DEEP = VERSION + b"\x19" + list_of(200_000, b"\x35\x00\x18\x01s\x15\x02\x00") + NO_ROWS + b"\x19\x0c\x00"


def huge_video(folder: Path) -> None:
    """A frame of 8192 x 4096."""
    (folder / VIDEO).write_bytes(
        encoded("mp4", height=4096, width=8192, count=1, options={"preset": "ultrafast"})
    )


def huge_inside(folder: Path) -> None:
    """Frames become huge in the middle of the stream; the container says nothing of it."""
    raw = folder.parent / "raw.h264"
    options = {"preset": "ultrafast", "bf": "0"}
    raw.write_bytes(
        encoded("h264", count=8, options=options)
        + encoded("h264", height=2048, width=2048, count=8, options=options)
    )
    second = Fraction(1, 9000)
    with av.open(str(raw), format="h264") as source, av.open(str(folder / VIDEO), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.time_base = second
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.stream, packet.time_base = stream, second
            packet.pts = packet.dts = number * 1000
            target.mux(packet)
    raw.unlink()


def many_frames(folder: Path) -> None:
    """9000 frames a second, said to be 9."""
    (folder / VIDEO).write_bytes(encoded("mp4", fps=9000, count=3000, options={"preset": "ultrafast"}))


CASES: dict[str, Spoil] = {
    "a template that is wide": info("data_path", to="{chunk_index:3000000000d}"),
    "a template that is filled": info("video_path", to="{video_key:x>3000000000}"),
    "an action of a billion numbers": info("features", "action", "shape", to=[10**9]),
    "a description of 6 MB": content(INFO, lambda text: text[:-2] + b',"x":"' + b"x" * 6_000_000 + b'"}'),
    "2 million episodes": rows(EPISODES, 2_000_000),
    "60 million tasks": rows(TASKS, 60_000_000),
    "3 million rows, listed": listed_rows,
    "a row of 20 million numbers": one_row,
    "a text of 100 MB, ten thousand times": long_texts,
    "texts that swell": swelling_texts,
    "a footer of ten million columns": footer(lambda _: MANY_CHUNKS),
    "a footer of four million row groups": footer(lambda _: MANY_GROUPS),
    "a footer nested 200,000 deep": footer(lambda _: DEEP),
    "a footer of 4 GB": content(DATA, lambda whole: whole[:-8] + b"\xff\xff\xff\xffPAR1"),
    "frames of 8192 x 4096": huge_video,
    "frames that grow": huge_inside,
    "far too many frames": many_frames,
    "an episode of 50 million frames": lambda folder: (
        info("total_frames", to=50_000_011)(folder),
        column(EPISODES, "length", at(0, 50_000_000))(folder),
        column(EPISODES, "dataset_to_index", at(0, 50_000_000))(folder),
        column(EPISODES, f"videos/{CAMERA}/to_timestamp", at(0, 50_000_000 / 9))(folder),
    ),
    "a sparse file of 1 TB": lambda folder: os.truncate(folder / DATA, 10**12),
}  # fmt: skip


@pytest.mark.slow
def test_small_files_that_would_take_gigabytes(tmp_path: Path) -> None:
    violations = {}
    for name, spoil in CASES.items():
        folder = write(tmp_path / name / "set")
        spoil(folder)
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(folder)],
            capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        found = done.stdout.split() or ["no end", "0", "0"]
        if (
            found[0] != "2"
            or done.stderr.count("\n") != 1
            or float(found[1]) > seconds_here(SECONDS)
            or int(found[2]) > MEGABYTES
        ):
            violations[name] = (found, done.returncode, done.stderr[-300:])
        TRIED[f"refused within {SECONDS} s, {MEGABYTES} MB"] += 1
    assert not violations
    assert_documented("data sets: small files that would take gigabytes", len(CASES))
