"""Write the other models of a single-file checkpoint as a diffusers pipeline folder has them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from v2w_convert.checkpoint.output import safetensors_header
from v2w_convert.checkpoint.output_files import ByteRange, Generated, OutputFile, concatenated, text_file
from v2w_convert.checkpoint.source import WEIGHTS, Source
from v2w_convert.errors import V2WError
from v2w_convert.families.build import build_model

WEIGHTS_FILE = WEIGHTS[1]


def check_autoencoder(source: Source) -> None:
    """Compare the bundled autoencoder's tensors with those of diffusers' AutoencoderKL.

    Raises:
        V2WError: Unless diffusers' AutoencoderKL has exactly the tensors that were found for one.
    """
    part = source.autoencoder
    if part is None:
        return
    with torch.device("meta"):
        model = build_model(part.config["_class_name"], part.config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: info.shape for name, info in part.tensors.items()}
    broken = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if broken:
        faults = [
            f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'there')}" for name in broken
        ]
        raise V2WError(f"read the autoencoder in {source.folder}", faults[:5])


def pipeline_files(source: Source) -> list[OutputFile]:
    """`model_index.json`, `scheduler` and, if there is one, `vae`."""
    items = []
    index: dict[str, Any] = {"_class_name": source.class_name.removesuffix("UNet") + "Pipeline"}
    if source.scheduler is not None:
        items.append(text_file("scheduler/scheduler_config.json", json_text(source.scheduler)))
        index["scheduler"] = ["diffusers", source.scheduler["_class_name"]]
    if (part := source.autoencoder) is not None:
        tensors = sorted(part.tensors.items())
        infos = [(name, info.dtype, info.shape) for name, info in tensors]
        runs = [ByteRange(info.file, info.start, info.stop) for _, info in tensors]
        items.append(text_file("vae/config.json", json_text(part.config)))
        items.append(weights_file(f"vae/{WEIGHTS_FILE}", infos, runs))
        index["vae"] = ["diffusers", part.config["_class_name"]]
    return [*items, text_file("model_index.json", json_text(index))]


def weights_file(
    path: str, infos: list[tuple[str, str, tuple[int, ...]]], parts: Sequence[ByteRange | Generated]
) -> OutputFile:
    """A safetensors file: name, dtype as safetensors spells it and shape of each tensor, and its bytes."""
    start = safetensors_header(infos, {"format": "pt"})
    first = Generated(len(start), hashlib.sha256(start).hexdigest(), lambda: start)
    return OutputFile(path, concatenated([first, *parts]))


def json_text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
