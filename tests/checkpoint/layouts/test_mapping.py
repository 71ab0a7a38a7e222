"""Mappings run on places: renaming, and rows split and joined along the first axis, to the byte."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file

from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.layouts.mapping import map_tensors
from v2w_convert.checkpoint.source import read_tensor

Mapping = Callable[..., dict[str, Any]]


def split(state: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """All that the functions do to tensors."""
    a, b, c = state.pop("a").chunk(3, dim=0)
    first, second = torch.split(state["b"], (1, state["b"].size(0) - 1), dim=0)
    state["half"] = state["b"][: state["b"].shape[0] // 2]
    return state | {
        "q": a,
        "k": b,
        "v": c,
        "swap": torch.cat([second, first], dim=0),
        "nested": torch.chunk(b, 2)[1],
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_what_the_function_makes_of_tensors(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_file_utils, "split", split, raising=False)
    values = {
        "a": torch.arange(24.0).reshape(12, 2).to(dtype),
        "b": torch.arange(5.0).to(dtype),
        "c": torch.tensor(7.0, dtype=dtype),
        "d": torch.ones(0, 3, dtype=dtype),
    }
    for kind in ("safetensors", "pt"):
        file = tmp_path / f"model.{kind}"
        if kind == "pt":
            from v2w_convert.checkpoint.pickles import read_pickle

            torch.save({n: t for n, t in values.items() if t.numel()}, file)
            infos = read_pickle(file).tensors
        else:
            save_file(values, file)
            infos = read_header(file)
        found = map_tensors("split", infos)
        expected = split({name: tensor for name, tensor in values.items() if name in infos})
        assert found.keys() == expected.keys()
        for name, info in found.items():
            assert info.size == expected[name].numel() * dtype.itemsize
            assert torch.equal(read_tensor(info), expected[name]), name
        assert (found["swap"].crc is not None) == (kind == "pt")


def test_damage_in_a_piece_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's checksum covers all rows; it is compared for each piece."""
    from v2w_convert.checkpoint.pickles import read_pickle
    from v2w_convert.errors import V2WError

    monkeypatch.setattr(single_file_utils, "split", split, raising=False)
    file = tmp_path / "model.pt"
    torch.save({"a": torch.ones(6, 2), "b": torch.ones(4)}, file)
    found = map_tensors("split", read_pickle(file).tensors)
    data = bytearray(file.read_bytes())
    data[found["v"].start] ^= 1
    file.write_bytes(data)
    for name in ("q", "v"):
        with pytest.raises(V2WError, match="damaged"):
            read_tensor(found[name])
    read_tensor(found["swap"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state | {"x": state["a"] * 2}, "unsupported operand"),
        (lambda state: state | {"x": torch.nn.functional.relu(state["a"])}, "does more than rearrange rows"),
        (lambda state: state | {"x": torch.cat([state["a"], state["b"]])}, "a join of several tensors"),
        (lambda state: state | {"x": state["a"][0]}, "an index 0"),
        (lambda state: state | {"x": state["a"].chunk(2, dim=1)}, "another axis"),
        (lambda state: state | {"x": state["none"]}, "none is missing"),
    ],
)
def test_whatever_is_no_rearrangement_is_refused(
    change: Mapping, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_file_utils, "split", change, raising=False)
    save_file({"a": torch.ones(4, 2), "b": torch.ones(4, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=said):
        map_tensors("split", read_header(tmp_path / "model.safetensors"))


def test_a_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the installed diffusers has no convert_nothing"):
        map_tensors("convert_nothing", {})
