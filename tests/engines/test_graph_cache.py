"""Graphs that are kept are those that were written, or are made anew. What a graph says is of no matter here."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from v2w_convert.checkpoint.digests import file_digest
from v2w_convert.engines import graph_cache
from v2w_convert.engines.graph_cache import MAX_GRAPHS, default_folder, graph_key, keep_graph, kept_graph
from v2w_convert.errors import V2WError

KEY = "0" * 64


def made(text: str = "a graph", data: str = "its weights") -> Callable[[Path], str]:
    def make(file: Path) -> str:
        file.write_text(text)
        file.with_name(f"{file.name}.data").write_text(data)
        return text

    return make


def read(folder: Path, key: str = KEY) -> str | None:
    file = kept_graph(folder, key)
    return None if file is None else file.read_text()


def test_what_was_written_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "graphs"
    assert read(folder) is None
    assert keep_graph(folder, KEY, made()) == "a graph"
    assert read(folder) == "a graph" and read(folder, "1" * 64) is None
    assert sorted(file.name for file in (folder / KEY).iterdir()) == [
        "digests.json",
        "step.onnx",
        "step.onnx.data",
    ]


def record(entry: Path, value: object) -> None:
    (entry / "digests.json").write_text(json.dumps(value))


def linked(file: Path) -> None:
    outside = file.parents[2] / f"outside-{file.name}"
    file.rename(outside)
    file.symlink_to(outside)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def renamed(entry: Path) -> None:
    file = entry / "step.onnx"
    file.rename(entry / "other.onnx")
    record(entry, {name.name: file_digest(name) for name in entry.iterdir() if name.name != "digests.json"})


FAULTS: dict[str, Callable[[Path], object]] = {
    "a byte changed": lambda entry: (entry / "step.onnx").write_text("b graph"),
    "cut": lambda entry: (entry / "step.onnx").write_text("a grap"),
    "weights changed": lambda entry: (entry / "step.onnx.data").write_text("its weighty"),
    "weights missing": lambda entry: (entry / "step.onnx.data").unlink(),
    "graph missing": lambda entry: (entry / "step.onnx").unlink(),
    "renamed": renamed,
    "a file more": lambda entry: (entry / "more").write_text(""),
    "a folder more": lambda entry: (entry / "more").mkdir(),
    "no digests": lambda entry: (entry / "digests.json").unlink(),
    "no JSON": lambda entry: (entry / "digests.json").write_text("{"),
    "a list": lambda entry: record(entry, []),
    "large": lambda entry: (entry / "digests.json").write_text(" " * 5_000_001),
    "no digest": lambda entry: record(entry, {"step.onnx": 0, "step.onnx.data": None}),
    "unknown digest": lambda entry: record(
        entry, {"step.onnx": "md5:" + "0" * 64, "step.onnx.data": "0" * 64}
    ),
    "a path": lambda entry: record(entry, {"../step.onnx": "0" * 64}),
    "linked graph": lambda entry: linked(entry / "step.onnx"),
    "linked entry": linked,
    "link to nothing": lambda entry: (shutil.rmtree(entry), entry.symlink_to(entry.parent / "nothing")),
    "a pipe": lambda entry: pipe(entry / "step.onnx"),
    "digests are a pipe": lambda entry: pipe(entry / "digests.json"),
    "a file in its place": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_damaged_or_foreign_is_made_anew(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "graphs"
    keep_graph(folder, KEY, made())
    FAULTS[fault](folder / KEY)
    outside = {file: file.read_bytes() for file in tmp_path.rglob("outside*") if file.is_file()}
    assert read(folder) is None
    keep_graph(folder, KEY, made("another graph"))
    assert read(folder) == "another graph"
    assert all(file.read_bytes() == data for file, data in outside.items())


def test_a_graph_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(file: Path) -> None:
        file.write_text("half")
        raise V2WError("compute", "its frames differ")

    with pytest.raises(V2WError, match="its frames differ"):
        keep_graph(tmp_path, KEY, fail)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_make_the_same_graph(tmp_path: Path) -> None:
    def while_another_does(file: Path) -> str:
        keep_graph(tmp_path, KEY, made("the other's"))
        file.write_text("ours")
        return "ours"

    assert keep_graph(tmp_path, KEY, while_another_does) == "ours"
    assert read(tmp_path) == "the other's"


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{number:064x}" for number in range(MAX_GRAPHS + 2)]
    left = tmp_path / f".{KEY}.partial-1-abc"
    for entry in (tmp_path / "notes", left):
        entry.mkdir()
        os.utime(entry, (0, 0))
    for number, key in enumerate(keys[:-1]):
        keep_graph(tmp_path, key, made())
        os.utime(tmp_path / key, (number, number))
    assert read(tmp_path, keys[1]) is not None  # which makes it the last that was used
    keep_graph(tmp_path, keys[-1], made())
    kept = {entry.name for entry in tmp_path.iterdir()}
    assert kept == {"notes", *keys} - {keys[0], keys[2]}
    monkeypatch.setattr(graph_cache, "MAX_BYTES", 1)
    keep_graph(tmp_path, KEY, made())
    assert {entry.name for entry in tmp_path.iterdir()} == {"notes", KEY}


def test_the_key_is_of_all_that_a_graph_is_made_of() -> None:
    torch.manual_seed(0)
    model = nn.BatchNorm1d(2)
    facts = {"window": 4}
    keys = [graph_key(model, facts)]
    assert graph_key(model, dict(facts)) == keys[0]
    keys.append(graph_key(model, {"window": 5}))
    for tensor in (model.weight, model.running_mean, model.num_batches_tracked):
        assert tensor is not None
        with torch.no_grad():
            tensor += 1
        keys.append(graph_key(model, facts))
    keys.append(graph_key(model.double(), facts))
    assert len(set(keys)) == len(keys)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(V2WError, match=r"--cache DIR") as error:
        keep_graph(file, KEY, made())
    assert str(file) in str(error.value)


def test_where_graphs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "v2w" / "graphs"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "v2w" / "graphs"
