"""Write the other models of a single-file checkpoint as a diffusers pipeline folder has them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.output import safetensors_header
from v2w_convert.checkpoint.output_files import ByteRange, Generated, OutputFile, text_file
from v2w_convert.checkpoint.source import WEIGHTS_FILE, Source, read_tensor
from v2w_convert.world.autoencoder_files import FOLDER, AutoencoderFiles, build_autoencoder, find_autoencoder


def check_autoencoder(source: Source) -> None:
    """Check that the autoencoder, if there is one, can be opened once the model is trained.

    Raises:
        V2WError: It is of a class that is not served, or its weights cannot be read or are not its config's.
    """
    autoencoder_of(source)


def autoencoder_of(source: Source) -> AutoencoderFiles | None:
    """The autoencoder as its files describe it, without its weights; None where there is none. Raises as `check_autoencoder`."""
    part = source.autoencoder
    if part is not None:
        return build_autoencoder(part.config, part.tensors, f"read the autoencoder in {source.folder}")
    return find_autoencoder(source.folder) if has_autoencoder(source) else None


def has_autoencoder(source: Source) -> bool:
    """Whether a pipeline folder has an autoencoder, whatever it is."""
    return bool(source.component) and not source.pipeline and (source.folder / FOLDER).is_dir()


def autoencoder_notes(source: Source) -> list[str]:
    """What to know where there is none."""
    if source.pipeline or has_autoencoder(source):
        return []
    return [
        "it has no vae/, which `v2w finetune` and `v2w rollout` need: put its pipeline's into the converted folder"
    ]


def pipeline_files(source: Source) -> list[OutputFile]:
    """`model_index.json`, `scheduler` and, if there is one, `vae`."""
    items = []
    index: dict[str, Any] = {"_class_name": source.pipeline}
    if source.scheduler is not None:
        items.append(text_file("scheduler/scheduler_config.json", json_text(source.scheduler)))
        index["scheduler"] = ["diffusers", source.scheduler["_class_name"]]
    if (part := source.autoencoder) is not None:
        tensors = sorted(part.tensors.items())
        infos = [(name, info.dtype, info.shape) for name, info in tensors]
        runs = [part for name, info in tensors for part in kept_parts(name, info)]
        items.append(text_file("vae/config.json", json_text(part.config)))
        items.append(weights_file(f"vae/{WEIGHTS_FILE}", infos, runs))
        index["vae"] = ["diffusers", part.config["_class_name"]]
    return [*items, text_file("model_index.json", json_text(index))]


def kept_parts(name: str, info: TensorInfo) -> list[ByteRange | Generated]:
    """The bytes of a tensor that stays as it is, in one part; where the file has a checksum of them, it is checked."""

    def keep() -> Any:
        return read_tensor(info).flatten().view(torch.uint8).numpy().data

    if not info.size:
        return []
    if info.rest or info.crc_range is not None:
        return [Generated(info.size, f"{name}, kept", keep, ranges_of(info))]
    return [ByteRange(info.file, info.start, info.stop, info.crc)]


def ranges_of(info: TensorInfo) -> tuple[ByteRange, ...]:
    """Where a tensor's bytes lie."""
    return tuple(ByteRange(info.file, start, stop) for start, stop in info.ranges)


def weights_file(
    path: str, infos: list[tuple[str, str, tuple[int, ...]]], parts: Sequence[ByteRange | Generated]
) -> OutputFile:
    """A safetensors file: name, dtype as safetensors spells it and shape of each tensor, and its bytes."""
    start = safetensors_header(infos, {"format": "pt"})
    first = Generated(len(start), hashlib.sha256(start).hexdigest(), lambda: start)
    return OutputFile(path, (first, *(part for part in parts if part.size)))


def json_text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
