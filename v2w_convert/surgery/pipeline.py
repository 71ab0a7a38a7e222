"""What a checkpoint in one file has besides its denoiser, written as in a diffusers pipeline folder."""

import json
from pathlib import Path
from typing import Any

import torch

from v2w_convert.checkpoint.output import write_safetensors
from v2w_convert.checkpoint.source import WEIGHTS, Source, read_tensor
from v2w_convert.errors import V2WError
from v2w_convert.plan.resolve import build

FILE = WEIGHTS[1]


def check_autoencoder(source: Source) -> None:
    """Raises V2WError unless diffusers' AutoencoderKL has exactly the tensors that were found for one."""
    part = source.autoencoder
    if part is None:
        return
    with torch.device("meta"):
        model = build(part.config["_class_name"], part.config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: info.shape for name, info in part.tensors.items()}
    broken = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if broken:
        faults = [
            f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'there')}" for name in broken
        ]
        raise V2WError(f"read the autoencoder in {source.folder}", faults[:5])


def write_pipeline(source: Source, folder: Path) -> None:
    """`model_index.json`, `scheduler` and, if there is one, `vae` in `folder`; one tensor at a time is in memory."""
    index: dict[str, Any] = {"_class_name": source.class_name.removesuffix("UNet") + "Pipeline"}
    if source.scheduler is not None:
        (folder / "scheduler").mkdir()
        write_json(folder / "scheduler" / "scheduler_config.json", source.scheduler)
        index["scheduler"] = ["diffusers", source.scheduler["_class_name"]]
    if (part := source.autoencoder) is not None:
        (folder / "vae").mkdir()
        write_json(folder / "vae" / "config.json", part.config)
        tensors = sorted(part.tensors.items())
        headers = [(name, info.dtype, info.shape) for name, info in tensors]
        read = ((name, read_tensor(info)) for name, info in tensors)
        write_safetensors(folder / "vae" / FILE, read, headers, {"format": "pt"})
        index["vae"] = ["diffusers", part.config["_class_name"]]
    write_json(folder / "model_index.json", index)


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
