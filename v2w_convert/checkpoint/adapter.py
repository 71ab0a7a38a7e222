"""Low-rank updates beside a denoiser's weights, as peft writes them: W + scale · B A takes the place of W.

`v2w finetune --train lora` writes them into `adapter/` in the denoiser's folder, and the weights stay the base's. They are
added whenever a tensor is read, so that a model with an adapter is a model like any other to the rest of the code. peft is
not needed for it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_convert.checkpoint.headers import LowRank, TensorInfo, read_header
from v2w_convert.checkpoint.source import Source
from v2w_convert.errors import V2WError
from v2w_convert.links import refuse_links_out
from v2w_convert.strict_json import read_object

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER = "adapter"  # folder
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX, DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
MAX_RANK, MAX_ALPHA = 1_000_000, 1e6
ADVICE = "the adapter that v2w finetune wrote"


@dataclass(frozen=True)
class Update:
    """An update of one layer's weight (o i).

    Attributes:
        down: A (rank i).
        up: B (o rank).
        scale: What B A is multiplied by.
    """

    down: "Tensor"
    up: "Tensor"
    scale: float


def scale_of(rank: int, alpha: float) -> float:
    """What an update of this rank is multiplied by."""
    return alpha / rank


def adapter_config(rank: int, alpha: float, layers: list[str]) -> str:
    """The text of adapter_config.json."""
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(layers),
    }
    return json.dumps(config, indent=1, allow_nan=False) + "\n"


def adapter_tensors(updates: Mapping[str, Update]) -> dict[str, "Tensor"]:
    """The tensors of adapter_model.safetensors, from updates by the paths of their layers."""
    found = {}
    for layer, update in updates.items():
        found[f"{PREFIX}{layer}{DOWN}"], found[f"{PREFIX}{layer}{UP}"] = update.down, update.up
    return found


def with_adapters(source: Source) -> Source:
    """`source` with the updates that lie beside its denoisers. Only headers are read.

    Raises:
        V2WError: An adapter is not one of LoRA's plain form, or does not fit.
    """
    low = source.low_noise and with_adapters(source.low_noise)
    folder = source.folder / source.component / ADAPTER
    if not folder.is_dir():
        return replace(source, low_noise=low)
    refuse_links_out([folder / CONFIG, folder / WEIGHTS], source.folder, f"read {folder}")
    updates = read_adapter(folder, source.tensors)
    tensors = {
        name: replace(info, update=updates.get(name)) if name in updates else info
        for name, info in source.tensors.items()
    }
    return replace(source, tensors=tensors, low_noise=low)


def read_adapter(folder: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, LowRank]:
    """The updates in `folder` by the names of the weights that they belong to.

    Args:
        folder: The adapter's.
        tensors: The denoiser's.

    Raises:
        V2WError: As `with_adapters`.
    """
    scale = _read_scale(folder / CONFIG)
    header = read_header(folder / WEIGHTS)
    layers = {
        name.removeprefix(PREFIX).removesuffix(end)
        for name in header
        for end in (DOWN, UP)
        if name.startswith(PREFIX) and name.endswith(end)
    }
    faults, updates = [], {}
    if unknown := header.keys() - {f"{PREFIX}{layer}{end}" for layer in layers for end in (DOWN, UP)}:
        faults.append(f"{min(unknown)} is no part of an update")
    for layer in sorted(layers):
        down, up = (header.get(f"{PREFIX}{layer}{end}") for end in (DOWN, UP))
        weight = tensors.get(f"{layer}.weight")
        if down is None or up is None:
            faults.append(f"{layer} has only one half of an update")
        elif weight is None or len(weight.shape) != 2:
            faults.append(f"the model has no linear layer {layer}")
        elif not _fits(weight, down, up):
            faults.append(
                f"{layer}: {up.dtype} {up.shape} times {down.dtype} {down.shape} is no update of {weight.shape}"
            )
        else:
            updates[f"{layer}.weight"] = LowRank(down, up, scale)
    if faults:
        raise V2WError(f"read {folder / WEIGHTS}", faults[:3], ADVICE)
    return updates


def _fits(weight: TensorInfo, down: TensorInfo, up: TensorInfo) -> bool:
    floating = all(info.dtype in ("F64", "F32", "F16", "BF16") for info in (weight, down, up))
    matrices = len(down.shape) == len(up.shape) == 2
    return (
        floating
        and matrices
        and (up.shape[0], down.shape[1]) == weight.shape
        and up.shape[1] == down.shape[0] > 0
    )


def _read_scale(file: Path) -> float:
    """The scale of the updates, by adapter_config.json.

    Raises:
        V2WError: It is not LoRA in its plain form: what else it says would be ignored.
    """
    config = read_object(file)
    plain: dict[str, Any] = json.loads(adapter_config(1, 1, []))
    free = (
        "r",
        "lora_alpha",
        "target_modules",
        "lora_dropout",
        "inference_mode",
        "base_model_name_or_path",
        "task_type",
    )
    faults = [
        f"{key} is {str(value)[:60]}"
        for key, value in config.items()
        if key not in free and (value != plain[key] if key in plain else bool(value))
    ]
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 0 < rank <= MAX_RANK:
        faults.append(f"r is {str(rank)[:60]}")
    if type(alpha) not in (int, float) or not 0 < float(alpha or 0) <= MAX_ALPHA:
        faults.append(f"lora_alpha is {str(alpha)[:60]}")
    if config.get("peft_type") != "LORA":
        faults.append("its peft_type is not LORA")
    if faults:
        raise V2WError(f"read {file}", faults[:3], ADVICE)
    return scale_of(config["r"], config["lora_alpha"])
