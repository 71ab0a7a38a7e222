"""An adapter beside the weights is added when they are read; one that is not plain LoRA, or does not fit, is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from v2w_convert.checkpoint.adapter import CONFIG, WEIGHTS, Update, adapter_config, adapter_tensors
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.read_tensor import read_tensor
from v2w_convert.errors import V2WError
from v2w_convert.surgery.load import load

LAYER = "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q"


@pytest.fixture
def adapted(tiny_converted: Path, tmp_path: Path) -> Path:
    """A converted model with an adapter of rank 2 on one layer."""
    folder = tmp_path / "adapted"
    shutil.copytree(tiny_converted, folder)
    write(folder, update(tiny_converted))
    return folder


def update(folder: Path, rank: int = 2) -> Update:
    o, i = open_source(folder).tensors[f"{LAYER}.weight"].shape
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(rank, i, generator=generator), torch.randn(o, rank, generator=generator)
    return Update(down, up, 1.5)


def write(folder: Path, update: Update) -> None:
    (folder / "unet/adapter").mkdir()
    rank = len(update.down)
    (folder / "unet/adapter" / CONFIG).write_text(adapter_config(rank, update.scale * rank, [LAYER]))
    save_file(adapter_tensors({LAYER: update}), folder / "unet/adapter" / WEIGHTS)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
def test_it_is_added_in_float32_or_wider_and_rounded_once(
    dtype: torch.dtype | None, adapted: Path, tiny_converted: Path
) -> None:
    info = open_source(adapted).tensors[f"{LAYER}.weight"]
    base = read_tensor(open_source(tiny_converted).tensors[f"{LAYER}.weight"])
    one = update(tiny_converted)
    wide = dtype or torch.float32
    expected = torch.addmm(base.to(wide), one.up.to(wide), one.down.to(wide), alpha=one.scale)
    found = read_tensor(info, dtype)
    assert found.dtype == (dtype or torch.float16)
    assert torch.equal(found, expected.to(found.dtype))


def test_only_what_has_an_update_differs(adapted: Path, tiny_converted: Path) -> None:
    before, after = (load(folder).base.state_dict() for folder in (tiny_converted, adapted))
    assert [name for name in before if not torch.equal(before[name], after[name])] == [f"{LAYER}.weight"]


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        change(config)
        (folder / CONFIG).write_text(json.dumps(config))

    return edit


def stored(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def store(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return store


def linked(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parents[2] / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parents[2] / "elsewhere")


A, B = f"base_model.model.{LAYER}.lora_A.weight", f"base_model.model.{LAYER}.lora_B.weight"
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda folder: (folder / CONFIG).unlink(), "no such file"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "no such file"),
    "of another kind": (edited(lambda c: c.update(peft_type="IA3")), "peft_type is IA3"),
    "DoRA": (edited(lambda c: c.update(use_dora=True)), "use_dora is True"),
    "ranks by layer": (edited(lambda c: c.update(rank_pattern={"to_q": 4})), "rank_pattern is"),
    "rank 0": (edited(lambda c: c.update(r=0)), "r is 0"),
    "an endless scale": (edited(lambda c: c.update(lora_alpha=1e300)), "lora_alpha is 1e[+]300"),
    "a scale in words": (edited(lambda c: c.update(lora_alpha="2")), "lora_alpha is 2"),
    "half of an update": (stored(lambda t: t.pop(A)), "only one half"),
    "another layer": (stored(lambda t: t.update({A.replace("to_q", "to_x"): t.pop(A), B.replace("to_q", "to_x"): t.pop(B)})), "no linear layer"),
    "another size": (stored(lambda t: t.update({A: torch.zeros(2, 5)})), "is no update of"),
    "another rank": (stored(lambda t: t.update({A: torch.zeros(3, t[A].shape[1])})), "is no update of"),
    "no rank": (stored(lambda t: t.update({A: t[A][:0], B: t[B][:, :0].contiguous()})), "is no update of"),
    "whole numbers": (stored(lambda t: t.update({A: t[A].long()})), "is no update of"),
    "another tensor": (stored(lambda t: t.update(x=torch.zeros(1))), "x is no part of an update"),
    "NaN": (stored(lambda t: t[A].fill_(torch.nan)), "not finite"),
    "a link out of the folder": (linked, "is a link to"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_others_are_refused(name: str, adapted: Path) -> None:
    damage, found = BROKEN[name]
    damage(adapted / "unet/adapter")
    with pytest.raises(V2WError, match=found):
        load(adapted)
