"""What is trained, in what form, by which optimizer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from tests.finetuning.test_finetune import Stop, contents, stop_at
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.finetune import finetune
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.surgery.load import load

SETTINGS = FinetuneSettings(steps=3, batch=2, frames=6, lr=1e-2, warmup=0, checkpoint_every=2)
HALF = {"weights": "bfloat16", "mixed_precision": "bf16"}


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """Each test with its own precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(write_squares: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("data") / "one", (8,))


def weights(folder: Path) -> dict[str, Tensor]:
    """Every stored tensor of the denoiser."""
    return {
        name: tensor
        for file in (folder / "unet").glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


CHOICES: dict[str, dict[str, Any]] = {
    "action": {"train": "action", "ema": "cpu"},
    "bfloat16": {**HALF, "gradient_checkpointing": True},
    "temporal": {**HALF, "train": "temporal", "ema": "off", "optimizer": "adafactor"},
    "offload": {"offload_optimizer": True},
    "adamw-8bit": {**HALF, "train": "temporal", "optimizer": "adamw-8bit"},
    "lora": {**HALF, "train": "lora", "lora_rank": 2, "lora_alpha": 4.0, "lora_targets": "temporal"},
    "consistency": {"consistency": 1.0},
}


def of(choice: str) -> FinetuneSettings:
    if "lora" in choice:
        pytest.importorskip("peft")
    if choice == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    return FinetuneSettings.model_validate(SETTINGS.model_dump() | CHOICES[choice])


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_a_resumed_run_ends_like_an_unbroken_one_and_the_rest_stays(
    choice: str, tiny_converted: Path, data: Path, tmp_path: Path
) -> None:
    settings = of(choice)
    whole, again, begun = tmp_path / "whole", tmp_path / "again", tiny_converted
    if settings.consistency:
        with pytest.raises(V2WError, match="this one has not been finetuned"):
            finetune(tiny_converted, data, whole, settings)
        begun = tmp_path / "begun"
        finetune(tiny_converted, data, begun, SETTINGS)
    finetune(begun, data, whole, settings)
    with pytest.raises(Stop):
        finetune(begun, data, again, settings, progress=stop_at("train", 2))
    torch.rand(5)
    finetune(begun, data, again, settings)
    assert contents(again) == contents(whole)

    before, after = weights(begun), weights(whole)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {f"time_embedding.v2w_action.{name}" for name in ("center", "scale")}
    action = {name for name in before if ".v2w_action." in name}
    changed = load(whole).resolved.sites
    if settings.train in ("action", "lora"):
        assert statistics < moved <= action
    elif settings.train == "temporal":
        assert statistics < moved - {n for n in moved if n.rpartition(".")[0] in changed} | action
        assert all(n in action or n.startswith(tuple(f"{s}." for s in changed)) for n in moved)
    else:
        assert len(moved) > 0.7 * len(before)
    assert before.keys() == after.keys()
