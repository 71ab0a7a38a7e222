"""What `v2w convert` prints before it writes, and what it writes."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.commands import refused
from tests.conftest import ACTIONS
from v2w_convert.checkpoint.digests import ALGORITHM, new_digest
from v2w_convert.cli import run
from v2w_convert.families.build import build_model
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.surgery import convert as surgery
from v2w_convert.surgery.manifest import read_manifest

WHOLE = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}


def arguments(base: Path, out: Path, *more: str) -> list[str]:
    return ["convert", str(base), "-o", str(out), "--action-dim", str(ACTIONS), *more]


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_dry_run_lists_every_file_from_headers_alone(
    tiny_base: Path, tiny_converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of the weights only the header is there: the rest is a hole.
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    size = weights.stat().st_size
    with weights.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    os.truncate(weights, 8 + header)
    os.truncate(weights, size)
    assert run(arguments(base, tmp_path / "out", "--dry-run", "--json")) == 0
    found = printed(capsys)
    written = files(tiny_converted)
    assert {file["path"]: file["bytes"] for file in found["files"]} | {"v2w.json": 0} == {
        name: path.stat().st_size for name, path in written.items()
    } | {"v2w.json": 0}
    manifest = read_manifest(tiny_converted)
    assert found["changes"] == {name: fate for name, fate in manifest.tensors.items() if fate != "kept"}
    total = sum(path.stat().st_size for path in written.values())
    assert total < found["bytes_needed"] < total + 2**21
    assert found["bytes_free"] > found["bytes_needed"]
    assert os.listdir(tmp_path) == ["base"]


def test_the_manifest_has_the_hash_of_every_file(tiny_base: Path, tiny_converted: Path) -> None:
    manifest, written, read = read_manifest(tiny_converted), files(tiny_converted), files(tiny_base)
    assert manifest.result.keys() == written.keys() - {"v2w.json", "README.md"}
    weights = "diffusion_pytorch_model.safetensors"
    made = {
        f"unet/{weights}",
        "unet/v2w_added.safetensors",
        "conditions.safetensors",
    } & manifest.result.keys()
    assert manifest.result == {
        name: by_tensor(written[name]) if name.startswith("unet/") and name in made else whole(written[name])
        for name in manifest.result
    }
    assert manifest.source["others"] == {name: whole(read[name]) for name in WHOLE}
    assert manifest.source["files"] == {weights: by_tensor(read[f"unet/{weights}"])}


def whole(file: Path) -> str:
    return f"{ALGORITHM}:{digest(file.read_bytes())}"


def by_tensor(file: Path) -> str:
    """Each piece of a safetensors file for itself, then what they gave."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    ranges = sorted(entry["data_offsets"] for entry in header.values())
    pieces = [content[:start], *(content[start + a : start + b] for a, b in ranges if a < b)]
    return f"{ALGORITHM}-tensors:{digest(b''.join(bytes.fromhex(digest(piece)) for piece in pieces))}"


def digest(content: bytes) -> str:
    found = new_digest()
    found.update(content)
    return found.hexdigest()


def test_only_unchanged_files_are_linked_and_only_on_request(
    tiny_base: Path, tiny_converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    assert run(arguments(base, tmp_path / "out", "--link", "--json")) == 0
    assert set(printed(capsys)["linked"]) == WHOLE
    read, wanted, written = files(base), files(tiny_converted), files(tmp_path / "out")
    assert written.pop("config.yaml").stat().st_nlink == 1
    assert written.keys() == wanted.keys()
    for name, file in written.items():
        assert name in WHOLE or file.stat().st_nlink == 1, name
        assert name not in WHOLE or file.samefile(read[name]), name
        assert file.read_bytes() == wanted[name].read_bytes(), name
    assert all(file.stat().st_nlink == 1 for file in wanted.values())


def test_shards_without_a_changed_tensor_are_linked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shard without temporal convolutions, and all of a transformer: hashed once, and linked where asked."""
    plan = read_plan(shipped_plans()["wan"])
    torch.manual_seed(0)
    build_model(plan.base, plan.tiny).save_pretrained(tmp_path / "base", max_shard_size="50KB")
    base = files(tmp_path / "base")
    shards = {name for name in base if name.endswith(".safetensors")}
    assert len(shards) > 1
    assert run(arguments(tmp_path / "base", tmp_path / "out", "--link", "--json")) == 0
    assert set(printed(capsys)["linked"]) == shards
    written = files(tmp_path / "out")
    assert all(written[name].samefile(base[name]) for name in shards)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.source["files"] == {name: manifest.result[name] for name in shards}
    assert not manifest.source["others"]


def test_links_across_file_systems_become_copies_with_a_note(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def link(*names: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)
    assert run(arguments(tiny_base, tmp_path / "out", "--link")) == 0
    assert "4 of 4 whole files are copies" in capsys.readouterr().err
    assert all(file.stat().st_nlink == 1 for file in files(tmp_path / "out").values())


def test_all_obstacles_are_reported_together_before_writing(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    (base / "conditions.safetensors").write_bytes(b"theirs")
    statvfs, access = os.statvfs, os.access

    def full(path: Path) -> os.statvfs_result:
        return os.statvfs_result([*statvfs(path)[:4], 12, *statvfs(path)[5:]])

    monkeypatch.setattr(os, "statvfs", full)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    for more in ([], ["--dry-run"]):
        assert run(arguments(base, tmp_path / "out", *more)) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        for fault in (
            f"{tmp_path} is not writable",
            "two files share the name conditions.safetensors",
            "bytes are needed",
            f"{12 * statvfs(tmp_path).f_frsize:,} are free",
        ):
            assert fault in line
    assert os.listdir(tmp_path) == ["base"]


def test_the_source_itself_is_refused(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is inside the source" in refused(capsys, *arguments(tiny_base, tiny_base))
    assert "is inside the source" in refused(capsys, *arguments(tiny_base, tiny_base / "unet" / "out"))


def test_output_is_the_same_where_reads_and_writes_fall_short(
    tiny_base: Path, tiny_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.preadv, os.write
    monkeypatch.setattr(os, "preadv", lambda file, views, at: read(file, [views[0][:1001]], at))
    monkeypatch.setattr(os, "write", lambda file, data: write(file, memoryview(data)[:4099]))
    assert run(arguments(tiny_base, tmp_path / "out")) == 0
    wanted, written = files(tiny_converted), files(tmp_path / "out")
    assert written.pop("config.yaml").is_file()
    assert {name: f.read_bytes() for name, f in written.items()} == {
        name: f.read_bytes() for name, f in wanted.items()
    }


def test_a_source_truncated_during_conversion_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    perform = surgery.write_conversion

    def cut(*given: Any, **options: Any) -> Any:
        os.truncate(weights, weights.stat().st_size - 1)
        return perform(*given, **options)

    monkeypatch.setattr(surgery, "write_conversion", cut)
    assert "tensors end at byte" in refused(capsys, *arguments(base, tmp_path / "out"))
    assert os.listdir(tmp_path) == ["base"]


def test_the_sha256_that_the_hubs_cache_knows_is_recorded(tiny_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "models--a--b" / "snapshots" / "abc")
    weights, blob = base / "unet" / "diffusion_pytorch_model.safetensors", tmp_path / "models--a--b" / "blobs"
    blob.mkdir()
    weights.rename(blob / ("12" * 32))
    weights.symlink_to(blob / ("12" * 32))
    assert run(arguments(base, tmp_path / "out")) == 0
    assert read_manifest(tmp_path / "out").source["sha256"] == {weights.name: "12" * 32}
