"""23 to 35: indexes of shards, and which files of a folder are the model."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.conftest import INDEX, MODEL, Refused

KEY = "conv_in.weight"


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def named(shard: object) -> Callable[[Path], Any]:
    """The index says that `KEY` lies in `shard`."""
    return lambda base: edit(base / INDEX, lambda index: index["weight_map"].update({KEY: shard}))


def linked(base: Path) -> None:
    shutil.move(shards(base)[0], base.parent / "elsewhere")
    shards_before = json.loads((base / INDEX).read_text())["weight_map"]
    (base / min(shards_before.values())).symlink_to(base.parent / "elsewhere")


def replaced(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Something else stands where the first shard was."""

    def change(base: Path) -> None:
        file = shards(base)[0]
        file.unlink()
        make(file)

    return change


def lost(base: Path) -> None:
    for file in shards(base)[:2]:
        file.unlink()


def added(base: Path) -> None:
    file = shards(base)[0]
    save_file(load_file(file) | {"extra": torch.zeros(1)}, file)


def doubled(base: Path) -> None:
    first, second, *_ = shards(base)
    key = min(load_file(first))
    save_file(load_file(second) | {key: torch.zeros(1)}, second)


PLAIN_NAME = [INDEX, KEY, "not a plain name"]
CASES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "23 a shard above": (named("../../x.safetensors"), PLAIN_NAME),
    "24 an absolute shard": (named("/etc/passwd"), PLAIN_NAME),
    "25 a backslash": (named("a\\b.safetensors"), PLAIN_NAME),
    "25 a drive": (named("C:x.safetensors"), PLAIN_NAME),
    "25 a NUL": (named("a\0.safetensors"), PLAIN_NAME),
    "25 no name": (named(""), PLAIN_NAME),
    "25 a number": (named(7), PLAIN_NAME),
    "25 an escape sequence": (named("\x1b[31m.safetensors"), PLAIN_NAME),
    "25 a long name": (named("x" * 100_000), PLAIN_NAME),
    "25 a long key": (lambda base: edit(base / INDEX, lambda i: i["weight_map"].update({"k" * 100_000: "/"})), [INDEX]),
    "26 a shard linked from elsewhere": (linked, ["is a link to", "elsewhere"]),
    "27 a pipe": (replaced(os.mkfifo), ["not a regular file"]),
    "27 a folder": (replaced(os.mkdir), ["not a regular file"]),
    "27 a device": (replaced(lambda file: file.symlink_to("/dev/zero")), ["not a regular file"]),
    "28 a key that no shard has": (lambda base: edit(base / INDEX, lambda i: i["weight_map"].update(ghost=shards(base)[0].name)), ["ghost is in the index"]),
    "29 a key that the index has not": (added, ["extra is in", "not in the index"]),
    "30 a key in two shards": (doubled, ["in two shards"]),
    "31 two shards missing": (lost, ["2 of", "-00001-of", "-00002-of"]),
    "33 200 MB": (lambda base: os.truncate(base / INDEX, 200_000_000), [INDEX, "over the limit"]),
    "33 nested too deeply": (lambda base: (base / INDEX).write_text('{"a":' + "[" * 5000 + "]" * 5000 + "}"), [INDEX, "nested too deeply"]),
    "33 a key twice": (lambda base: (base / INDEX).write_text('{"weight_map": {"k": "a", "k": "a"}}'), [INDEX, "'k' appears twice"]),
    "33 no map": (lambda base: (base / INDEX).write_text('{"weight_map": 1}'), [INDEX, "no weight_map"]),
    "33 an empty map": (lambda base: (base / INDEX).write_text('{"weight_map": {}}'), [INDEX, "no tensor"]),
    "33 not UTF-8": (lambda base: (base / INDEX).write_bytes(b'{"weight_map\xff": {}}'), [INDEX, "UTF-8"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_index_is_refused(case: str, sharded: Path, refused: Refused) -> None:
    change, mentions = CASES[case]
    change(sharded)
    refused("convert", sharded, "-o", sharded.parent / "out", "--action-dim", 3, mentions=mentions)


def test_26_links_within_the_hubs_cache_are_read(sharded: Path, converts: Callable[..., str]) -> None:
    """Accepted: a snapshot of the Hub's cache links to blobs beside it."""
    snapshot, blobs = (sharded.parent / "models--a--b" / part for part in ("snapshots/0123", "blobs"))
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sharded.iterdir()):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    converts("inspect", snapshot)


def test_32_a_wrong_total_size_is_reported(sharded: Path, converts: Callable[..., str]) -> None:
    """Accepted: no byte depends on it; it is reported."""
    edit(sharded / INDEX, lambda index: index["metadata"].update(total_size=1))
    assert "says 1 bytes" in converts("inspect", sharded)


def test_34_a_pickle_beside_the_weights_is_ignored(plain: Path, converts: Callable[..., str]) -> None:
    """Accepted: safetensors are read, and that is reported."""
    (plain / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    assert "diffusion_pytorch_model.bin ignored" in converts("inspect", plain)


def test_34_a_pickle_alone_is_read_and_never_run(
    plain: Path, refused: Refused, converts: Callable[..., str]
) -> None:
    """Accepted, if it asks for nothing but tensors."""
    tensors, file = load_file(plain / MODEL), plain / "diffusion_pytorch_model.bin"
    (plain / MODEL).unlink()
    torch.save(tensors, file)
    converts("inspect", plain)
    file.unlink()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    refused("inspect", plain, mentions=["os system", "could run code", file.name])


def test_35_a_variant_beside_the_weights_is_ignored(plain: Path, converts: Callable[..., str]) -> None:
    """Accepted: as diffusers does, the files without a variant are read; that is reported."""
    shutil.copy(plain / MODEL, plain / "diffusion_pytorch_model.fp16.safetensors")
    assert "fp16.safetensors ignored" in converts("inspect", plain)
