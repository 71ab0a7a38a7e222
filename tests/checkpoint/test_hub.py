"""A Hub id as BASE, out of a cache as the library lays it out; nothing here reaches the network."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from tests.cli.commands import refused
from tests.conftest import ACTIONS
from v2w_convert.checkpoint.hub import resolve_hub_id
from v2w_convert.checkpoint.open import open_source
from v2w_convert.cli import run
from v2w_convert.surgery.manifest import read_manifest

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`someone/video`, its files links to blobs, in a cache of its own; the library is offline. Returns the snapshot."""
    repository = tmp_path / "cache" / "models--someone--video"
    snapshot = repository / "snapshots" / REVISION
    shutil.copytree(tiny_base, snapshot)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        blob = repository / "blobs" / f"{number:064x}"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return snapshot


def test_a_cached_hub_model_is_converted_like_a_folder(
    cached: Path, tiny_converted: Path, tmp_path: Path
) -> None:
    assert resolve_hub_id(Path("someone/video")) == cached
    assert open_source(resolve_hub_id(Path("someone/video"))).component == "unet"
    arguments = ["convert", "someone/video", "-o", "out", "--action-dim", str(ACTIONS)]
    assert run([*arguments, "--dry-run"]) == 0
    assert not Path("out").exists()
    assert run(arguments) == 0
    for file in tiny_converted.rglob("*"):
        if file.is_file() and file.name not in ("v2w.json", "README.md"):
            assert file.read_bytes() == (tmp_path / "out" / file.relative_to(tiny_converted)).read_bytes()
    assert not any(path.is_symlink() for path in Path("out").rglob("*"))
    assert read_manifest(Path("out")).source["name"] == "someone/video at 0123456789ab"
    assert run(arguments) == 0  # converted already


def test_an_existing_path_takes_precedence_over_the_hub(cached: Path, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, "someone/video")
    assert resolve_hub_id(Path("someone/video")) == Path("someone/video")


@pytest.mark.parametrize(
    "path", ["nowhere", "/a/b", "a/b/c", "../a", "./-/b", "a/..", "some one/video", "a\n/b"]
)
def test_a_path_that_is_not_an_id_is_not_looked_up(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **b: pytest.fail("asked"))
    assert resolve_hub_id(Path(path)) == Path(path)


def test_a_model_missing_from_the_cache_is_refused(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("inspect", "convert", "plan"):
        more = {"convert": ["-o", "out", "--action-dim", 3], "plan": ["-o", "plan.yaml"]}
        line = refused(capsys, command, "someone/else", *more.get(command, []))
        assert "no such folder or file here, the Hub cannot be reached" in line
    assert sorted(os.listdir()) == ["cache"]


def answer(kind: type, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    response = SimpleNamespace(status_code=status, headers={}, request=None)

    def raising(*arguments: Any, **options: Any) -> None:
        raise kind("first\n\nsecond \x1b[31m", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", raising)


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        (errors.GatedRepoError, 403, "it is gated"),
        (errors.RepositoryNotFoundError, 401, "no such repository on the Hub"),
        (errors.HfHubHTTPError, 500, "the Hub answered: first"),
    ],
)
def test_errors_of_the_hub_are_reported_in_one_line(
    kind: type,
    status: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer(kind, status, monkeypatch)
    assert expected in refused(capsys, "inspect", "someone/video")


def test_only_the_needed_files_are_downloaded(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, allow_patterns: list[str], ignore_patterns: list[str] | None = None) -> str:
        asked.append((allow_patterns, ignore_patterns))
        return str(tmp_path)

    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "A", "unet": ["diffusers", "B"], "../x": ["a", "b"], "vae": ["c", "d"]})
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    resolve_hub_id(Path("someone/video"))
    wanted = ["model_index.json", "README.md", "unet/*", "vae/*"]
    assert asked[0] == (["model_index.json", "config.json"], None)
    assert [allow for allow, _ in asked[1:]] == [wanted] * 3  # variants only where there is nothing else
    assert "*.fp16.*" in (asked[1][1] or [])
    assert "*.fp16.*" not in (asked[2][1] or [])
    assert ["*.bin" in (ignore or []) for _, ignore in asked[1:]] == [
        True,
        True,
        False,
    ]  # nor what torch.save wrote
    asked.clear()
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").touch()
    resolve_hub_id(Path("someone/video"))
    assert len(asked) == 2
    asked.clear()
    resolve_hub_id(Path("someone/video"), "fp16")
    assert {"*.fp16.*", "*.bf16.*"} & {*(asked[1][1] or [])} == {"*.bf16.*"}
    asked.clear()
    (tmp_path / "model_index.json").unlink()
    (tmp_path / "config.json").write_text('{"_class_name": "WanModel"}')
    resolve_hub_id(
        Path("someone/video")
    )  # as its makers publish it: the autoencoder, not the prompt's encoder
    assert "Wan2.1_VAE.pth" in asked[1][0] and "*" not in asked[1][0]
