"""Folders with two denoisers: what is seen, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pairs import BOUNDARY, write_pair
from v2w_convert.checkpoint.open import open_source
from v2w_convert.errors import V2WError


def entries(folder: Path, name: str = "model_index.json", **changed: Any) -> None:
    """Other entries in a JSON file; None: without it."""
    file = folder / name
    found = json.loads(file.read_text()) | changed
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))


def test_both_denoisers_and_the_boundary_are_seen(tmp_path: Path) -> None:
    base = write_pair(tmp_path / "base")
    (base / "transformer_2" / "note.txt").write_text("a note")
    source = open_source(base)
    assert source.boundary == BOUNDARY
    assert {name: part.component for name, part in source.experts.items()} == {
        "high": "transformer",
        "low": "transformer_2",
    }
    assert {file.parent.name for file in source.files} == {"transformer"}
    low = source.experts["low"]
    assert {file.parent.name for file in low.files} == {"transformer_2"}
    assert low.tensors.keys() == source.tensors.keys()
    assert low.scheduler == source.scheduler
    assert set(map(str, source.others)) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer_2/note.txt",
    }


@pytest.mark.parametrize("entry", [None, [None, None], ...])
def test_a_second_folder_that_the_pipeline_does_not_name_is_copied_and_noted(
    tmp_path: Path, entry: Any
) -> None:
    base = write_pair(tmp_path / "base")
    entries(base, transformer_2=entry, boundary_ratio=None)
    source = open_source(base)
    assert list(source.experts) == [""]
    assert any("transformer_2" in note for note in source.notes)
    assert Path("transformer_2/config.json") in source.others


@pytest.mark.parametrize("name", ["transformer", "transformer_2"])
def test_a_component_folder_is_one_model(tmp_path: Path, name: str) -> None:
    source = open_source(write_pair(tmp_path / "base") / name)
    assert (list(source.experts), source.component, source.notes) == ([""], "", ())


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no boundary": (lambda base: entries(base, boundary_ratio=None), "no boundary_ratio between"),
    "boundary missing": (lambda base: entries(base, boundary_ratio=...), "no boundary_ratio between"),
    "boundary 0": (lambda base: entries(base, boundary_ratio=0), r"is 0, not a number in \(0, 1\]"),
    "boundary 1.5": (lambda base: entries(base, boundary_ratio=1.5), "is 1.5, not a number"),
    "boundary in words": (lambda base: entries(base, boundary_ratio="0.9"), "is '0.9', not a number"),
    "boundary true": (lambda base: entries(base, boundary_ratio=True), "is True, not a number"),
    "no second denoiser": (lambda base: entries(base, transformer_2=None), "names no transformer_2"),
    "second folder missing": (
        lambda base: (base / "transformer_2").rename(base / "elsewhere"),
        "names transformer_2, but there is no",
    ),
    "another architecture": (
        lambda base: entries(base, "transformer_2/config.json", num_layers=1),
        "differ in num_layers",
    ),
    "another class": (
        lambda base: entries(base, "transformer_2/config.json", _class_name="Other"),
        "differ in _class_name",
    ),
    "weights missing": (
        lambda base: next((base / "transformer_2").glob("*.safetensors")).unlink(),
        "no diffusion_pytorch_model.safetensors in .*transformer_2",
    ),
    "a link": (
        lambda base: (base / "transformer_2").symlink_to(
            (base / "transformer_2").rename(base.parent / "aside")
        ),
        "transformer_2 is a link",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    change, message = REFUSED[case]
    base = write_pair(tmp_path / "base")
    change(base)
    with pytest.raises(V2WError, match=message):
        open_source(base)


def test_where_a_config_comes_from_does_not_matter(tmp_path: Path) -> None:
    base = write_pair(tmp_path / "base")
    entries(base, "transformer_2/config.json", _name_or_path="elsewhere", _diffusers_version="0.1")
    assert len(open_source(base).experts) == 2
