"""What a refusal costs, in a process of its own: time, memory, and what is imported."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.conftest import INDEX, MODEL, TRIED, contents
from tests.speed import seconds_here
from v2w_convert.checkpoint.headers import MAX_TENSORS, VALUES
from v2w_convert.plan.read import shipped_plans

PLAN = shipped_plans()["stable-video-diffusion"].read_text()
# The peak of resident memory is read from /proc: that of getrusage may be the parent's.
MEASURED = """
import importlib, sys, time
from v2w_convert.cli import run
for name in filter(None, sys.argv.pop(1).split(',')):
    importlib.import_module(name)
begun = time.process_time()
code = run(sys.argv[1:])
seconds = time.process_time() - begun
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
print(code, round(seconds, 2), peak, int("torch" in sys.modules))
"""


def measured(*arguments: object, imported: str = "") -> tuple[int, float, int, bool, str]:
    """Exit code, seconds of computing after the program's start and what is `imported` first (the machine may be busy), MB, whether torch
    was imported, and the output.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, imported, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,  # by the clock, on a busy machine; what is limited is computing
    )
    code, seconds, peak, torch = done.stdout.split()
    return int(code), float(seconds), int(peak), torch == "1", done.stderr


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def tensors(count: int) -> bytes:
    entry = (
        b'"a.name.as.long.as.they.come.%d.weight":{"dtype":"F32","shape":[1,1,1,0,1],"data_offsets":[0,0]}'
    )
    return header(b"{" + b",".join(entry % n for n in range(count)) + b"}") + b"x"


def pickle_of(data: bytes) -> Callable[[Path], Any]:
    def make(base: Path) -> Path:
        file = base.parent / "model.ckpt"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/data.pkl", data)
        return file

    return make


def weights(data: bytes) -> Callable[[Path], Any]:
    return lambda base: (base / MODEL).write_bytes(data)


def index(shard: str) -> Callable[[Path], Any]:
    return lambda base: (base / INDEX).write_text(json.dumps({"weight_map": {"conv_in.weight": shard}}))


def bomb(base: Path) -> Path:
    file = base.parent / "model.ckpt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a/data/0", "w") as entry:
            for _ in range(256):
                entry.write(bytes(1 << 20))
        archive.writestr("a/data.pkl", b"\x80\x02N.")
    return file


# Each spoils the folder, or returns another base.
FILES_ALONE: dict[str, Callable[[Path], Any]] = {
    "3 a header of 2^63 bytes": weights(struct.pack("<Q", 2**63)),
    "14 800,000 tensors": weights(tensors(800_000)),
    "14 as many tensors as may be, and a fault": weights(tensors(MAX_TENSORS - 100)),
    "14 as many values as may be": weights(header(b"{" + b",".join(b'"%06d":1' % n for n in range(MAX_TENSORS * VALUES - 1)) + b"}")),
    "15 metadata that swells": weights(header(b'{"__metadata__":{"a":"' + b"x" * 4_900_000 + "😀".encode() + b'"}}') + b"x"),
    "23 a shard above": index("../../x.safetensors"),
    "27 a device": lambda base: ((base / MODEL).unlink(), (base / MODEL).symlink_to("/dev/zero"))[2:],
    "33 an index of 200 MB": lambda base: os.truncate((index("a")(base), base / INDEX)[1], 200_000_000),
    "33 an index nested deeply": lambda base: (base / INDEX).write_text('{"a":' + "[" * 99_000),
    "36 os.system": pickle_of(b"cos\nsystem\n(S'true'\ntR."),
    "39 a deflated bomb": bomb,
    "43 as large a pickle as may be": pickle_of(b"\x80\x02" + b"N0" * 1_200_000 + b"cos\nsystem\n."),
}  # fmt: skip
SECONDS = 3  # of a quick core: a bomb takes minutes, the largest allowed pickle 1

PLANS = {
    "65 a tag that calls": "v2w: !!python/object/apply:os.system ['true']\n",
    "66 a bomb of aliases": "a: &a [x, x]\nb: [*a, *a]\n",
    "66 as large as may be": "a: [" + "1," * 24_900 + "*a]",
}


@pytest.mark.parametrize("case", FILES_ALONE)
def test_faults_in_files_are_refused_cheaply(case: str, plain: Path) -> None:
    """Within three seconds and 100 MB, and without torch."""
    base = FILES_ALONE[case](plain)
    cheaply(plain, base if isinstance(base, Path) else plain)


@pytest.mark.parametrize("case", PLANS)
def test_faults_in_a_plans_text_are_refused_cheaply(case: str, plain: Path) -> None:
    (plain.parent / "plan.yaml").write_text(PLANS[case])
    cheaply(plain, plain, "--plan", plain.parent / "plan.yaml")


def test_faults_in_conditions_are_refused_cheaply(plain: Path) -> None:
    os.mkfifo(plain.parent / "given")
    cheaply(plain, plain, "--conditions", plain.parent / "given")


def cheaply(plain: Path, base: Path, *options: object) -> None:
    before = contents(plain.parent)
    code, seconds, peak, torch, output = measured(
        "convert", base, "-o", plain.parent / "out", "--action-dim", 3, *options
    )
    assert (code, output.count("\n"), torch) == (2, 1, False), output
    assert seconds < seconds_here(SECONDS), output
    assert peak < 100, output
    assert contents(plain.parent) == before
    TRIED["refused within 3 s, 100 MB, without torch"] += 1


def config(**entries: Any) -> Callable[[Path], Any]:
    def change(base: Path) -> None:
        content = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(content | entries))

    return change


BLOCKS = 20_000
MODELS: dict[str, Callable[[Path], Any]] = {
    "a million layers": config(layers_per_block=10**6),
    "many blocks": config(
        block_out_channels=[32] * BLOCKS,
        down_block_types=["DownBlockSpatioTemporal"] * BLOCKS,
        up_block_types=["UpBlockSpatioTemporal"] * BLOCKS,
    ),
    "a plan whose tiny model is not": lambda base: (base.parent / "plan.yaml").write_text(
        PLAN.replace("block_out_channels: [32, 64]", "block_out_channels: [320000, 640000]")
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_oversized_models_are_refused_within_limits(case: str, plain: Path) -> None:
    """Within eight seconds, besides importing torch and diffusers, and 600 MB."""
    MODELS[case](plain)
    options = ["--plan", plain.parent / "plan.yaml"] if "plan" in case else []
    code, seconds, peak, _, output = measured("inspect", plain, *options, imported="v2w_convert.families")
    assert (code, output.count("\n")) == (2, 1), output
    assert seconds < seconds_here(8), output
    assert peak < 600, output
    TRIED["refused within 8 s, 600 MB"] += 1
    shutil.rmtree(plain)
