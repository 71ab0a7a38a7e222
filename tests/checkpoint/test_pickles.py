"""Files that torch.save wrote: the bytes found are the tensors', and what could mislead or run is refused."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from v2w_convert.checkpoint.pickles import read_pickle
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.errors import V2WError


def saved(file: Path, content: object, **options: bool) -> Path:
    torch.save(content, file, **options)
    return file


def refused(file: Path) -> str:
    with pytest.raises(V2WError) as error:
        read_pickle(file)
    assert str(file) in str(error.value)
    return str(error.value)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "a": torch.randn(3, 4),
        "b": torch.randn(100).half()[10:20],
        "c": torch.randn(2, 2, 1, 1).bfloat16(),
        "d": torch.nn.Parameter(torch.randn(5)),
        "e": torch.tensor(7),
        "f": torch.zeros(0, 3),
        "g": torch.randn(4, 4).double()[1],
        "h": torch.randint(0, 2, (3,)).bool(),
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer_states": [{"x": torch.ones(2)}]},
        lambda state: {"module": state, "dp_world_size": 8},
        lambda state: {"pytorch-lightning_version": "1.9", "callbacks": {"Checkpoint": {"best": 1.0}}, "state_dict": state},
    ],
)  # fmt: skip
def test_every_tensor_is_read_bit_for_bit(tmp_path: Path, wrap) -> None:
    state = tensors()
    wrapped = wrap(state)
    found = read_pickle(saved(tmp_path / "model.ckpt", wrapped))
    assert list(found.tensors) == list(state)
    assert not found.unread
    assert set(found.aside) == (set() if wrapped is state else wrapped.keys() - {"state_dict", "module"})
    for name, tensor in state.items():
        read = read_tensor(found.tensors[name])
        assert read.dtype == tensor.dtype
        assert torch.equal(read, tensor.data)


def test_two_names_of_one_tensor_are_both_read(tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    found = read_pickle(saved(tmp_path / "a.pt", {"a": weight, "b": weight, "c": weight[1:]})).tensors
    assert found["a"] == found["b"]
    assert torch.equal(read_tensor(found["c"]), weight[1:])


def test_a_tensor_that_is_not_contiguous_is_reported_and_not_read(tmp_path: Path) -> None:
    state = {
        "fine": torch.ones(2),
        "transposed": torch.randn(4, 5).T,
        "expanded": torch.zeros(1).expand(1 << 40),
        "sparse": torch.eye(3).to_sparse(),
        "empty": torch.ones(2, device="meta"),
        "complex": torch.ones(2, dtype=torch.complex128),
    }
    found = read_pickle(saved(tmp_path / "a.pt", state))
    assert list(found.tensors) == ["fine"]
    assert found.unread.keys() == state.keys() - {"fine"}
    assert "contiguous" in found.unread["transposed"]
    assert "contiguous" in found.unread["expanded"]


class Runs:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_no_code_of_the_file_is_run(tmp_path: Path) -> None:
    file = saved(
        tmp_path / "a.ckpt", {"state_dict": {"a": torch.ones(2)}, "callbacks": Runs(tmp_path / "ran")}
    )
    message = refused(file)
    assert "mkdir" in message
    assert "safetensors" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    file = saved(tmp_path / "a.ckpt", tensors())
    file.write_bytes(file.read_bytes()[:-cut])
    refused(file)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {}, {"a": 1}, {"state_dict": {"a": 1}}])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    refused(saved(tmp_path / "a.ckpt", content))


@pytest.mark.parametrize("name", [1, "", "a\x1b[31m", "a\nb", "x" * 2000])
def test_invalid_tensor_names_are_refused(tmp_path: Path, name: object) -> None:
    message = refused(saved(tmp_path / "a.ckpt", {name: torch.ones(2)}))
    assert "not a tensor name" in message
    assert message.isprintable()


def rewrite(
    file: Path,
    into: Path,
    keep: Callable[[str], bool] = lambda name: not name.endswith(".format_version"),
    order: Callable[[list[str]], list[str]] = lambda names: names,
    method: int = zipfile.ZIP_STORED,
    cut: str = "nothing",
) -> Path:
    """Zipped again by another program, without the mark by which torch relies on its own order and gaps."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(into, "w", method) as new:
        for name in order([name for name in old.namelist() if keep(name)]):
            data = old.read(name)
            new.writestr(name, data[:8] if name.endswith(cut) else data)
    return into


def test_an_archive_zipped_again_is_read_the_same(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.ckpt", tensors())
    again = read_pickle(rewrite(file, tmp_path / "again.ckpt")).tensors
    for name, tensor in tensors().items():
        assert torch.equal(read_tensor(again[name]), tensor.data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_ambiguous_zip_archives_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.ckpt", tensors())
    assert "compressed" in refused(rewrite(file, tmp_path / "small.ckpt", method=zipfile.ZIP_DEFLATED))
    doubled = rewrite(file, tmp_path / "twice.ckpt", order=lambda names: [*names, names[-1]])
    assert "2 times" in refused(doubled)
    reversed_order = rewrite(file, tmp_path / "reversed.ckpt", order=lambda names: names[::-1])
    assert "order" in refused(reversed_order)
    refused(rewrite(file, tmp_path / "lost.ckpt", keep=lambda name: not name.endswith("data.pkl")))


@pytest.mark.parametrize("mark", [True, False])
def test_a_storage_beyond_the_file_is_refused(tmp_path: Path, mark: bool) -> None:
    """The pickle says more than the zip holds."""
    file = saved(tmp_path / "a.ckpt", {"a": torch.ones(64), "b": torch.ones(2)})
    short = rewrite(
        file,
        tmp_path / "short.ckpt",
        keep=lambda name: mark or not name.endswith(".format_version"),
        cut="data/0",
    )
    found = read_pickle(short)
    assert list(found.tensors) == ([] if mark else ["b"])
    assert "outside" in found.unread["a"]
