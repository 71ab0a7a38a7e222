"""A Hub id as DATA: what lerobot keeps, then the Hub library's cache; nothing here reaches the network."""

import os
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from tests.data.coloured import episodes
from v2w_convert.data import DataSettings, open_dataset, write_dataset
from v2w_convert.data.hub import resolve_data
from v2w_convert.errors import V2WError

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place, with a cache of its own; the library is offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_LEROBOT_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path) -> None:
    write_dataset(episodes(), folder, fps=9, action_names=["x", "y"])


def test_a_data_set_in_the_cache_is_read_offline(here: Path) -> None:
    repository = here / "cache/datasets--someone--walks"
    snapshot = repository / "snapshots" / REVISION
    write(here / "set")
    (repository / "blobs").mkdir(parents=True)
    for file in [path for path in (here / "set").rglob("*") if path.is_file()]:
        blob, place = (
            repository / "blobs" / f"{len(list(repository.glob('blobs/*'))):064x}",
            snapshot / file.relative_to(here / "set"),
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, blob)
        place.symlink_to(os.path.relpath(blob, place.parent))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(REVISION)
    data = open_dataset("someone/walks")
    assert (data.path, data.name, data.lengths) == (snapshot, "walks", [5, 9, 2])
    assert [len(episode) for episode in data.episodes()] == [5, 9, 2]


@pytest.mark.parametrize("named", [False, True])
def test_what_lerobot_keeps_is_taken_first(here: Path, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    home = here / ("elsewhere" if named else "home/lerobot")
    if named:
        monkeypatch.setenv("HF_LEROBOT_HOME", str(home))
    write(home / "someone/walks")
    assert open_dataset("someone/walks").path == home / "someone/walks"
    write(here / "someone/walks")
    assert open_dataset("someone/walks").path == Path("someone/walks")


def test_only_the_videos_of_the_cameras_are_asked_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / "set")
    asked: list[Any] = []

    def download(repository: str, *, repo_type: str, allow_patterns: list[str] | None) -> str:
        assert (repository, repo_type) == ("someone/walks", "dataset")
        asked.append(allow_patterns)
        return str(here / "set")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_data(Path("someone/walks"), DataSettings(camera="a,b")) == here / "set"
    assert asked == [["meta/info.json"], ["meta/*", "data/*", "videos/*a,b/*", "videos/*a/*", "videos/*b/*"]]
    resolve_data(Path("someone/walks"), DataSettings())
    assert asked[-1] == ["meta/*", "data/*", "videos/*"]
    (here / "set/meta/info.json").unlink()
    resolve_data(Path("someone/walks"), DataSettings())
    assert asked[-1] is None  # of another format


def test_what_is_nowhere_is_refused_in_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(V2WError, match="the Hub cannot be reached, and it is not in its cache"):
        open_dataset("someone/walks")
    with pytest.raises(V2WError, match="no such folder or file"):
        open_dataset("a/b/c")

    def gated(*_: Any, **__: Any) -> str:
        raise errors.LocalEntryNotFoundError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
    with pytest.raises(V2WError, match="cannot be reached") as refused:
        open_dataset("someone/walks")
    assert str(refused.value).isprintable()
