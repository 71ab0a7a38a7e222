"""Find and read the weights of one model in its folder: one file, shards, a variant; safetensors or what torch.save wrote.

The denoiser, the autoencoder and the encoders are found alike: by the names that diffusers and transformers give.
"""

import os
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.content import read_file
from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.listing import few, first, listed, names_in
from v2w_convert.checkpoint.source import WEIGHTS_FILE
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object

STEMS = (
    "diffusion_pytorch_model",
    "model",
    "pytorch_model",
)  # diffusers', transformers', the latter's before 2023
KINDS = ("safetensors", "bin")
_STEM, _VARIANT = f"(?P<stem>{'|'.join(STEMS)})", r"(?:\.(?P<variant>[A-Za-z0-9_-]{1,40}))?"
FILE = re.compile(rf"{_STEM}{_VARIANT}\.(?P<kind>{'|'.join(KINDS)})", re.ASCII)
INDEX = re.compile(rf"{_STEM}\.(?P<kind>{'|'.join(KINDS)})\.index{_VARIANT}\.json", re.ASCII)
SHARD = re.compile(rf"({'|'.join(STEMS)}).*-\d{{5}}-of-\d{{5}}.*\.({'|'.join(KINDS)})", re.ASCII)
SHARD_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.({'|'.join(KINDS)})", re.ASCII)
OWN_PREFIXES = (
    "diffusion_pytorch_model",
    "diffusion_flax_model",
)  # of files that are weights, whatever follows
PICKLES = (".ckpt", ".pt", ".pth")


class NoWeights(V2WError):
    """There is no weight file, or not all of them."""


@dataclass(frozen=True)
class Found:
    """A weight file, or the index of shards.

    Attributes:
        file: The file or the index.
        kind: "safetensors" or "bin".
        variant: Such as "fp16"; None: none.
        is_index: Whether it is an index.
    """

    file: Path
    kind: str
    variant: str | None
    is_index: bool


@dataclass(frozen=True)
class Weights:
    """The tensors of one model.

    Attributes:
        tensors: By name, those of all shards together.
        file: The weight file, or the index.
        files: The files that hold them.
        notes: What is odd or ignored, in sentences.
    """

    tensors: dict[str, TensorInfo]
    file: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def read_weights_of(
    model: Path, asked: str, variant: str | None = None, *, any_variant: bool = False
) -> Weights:
    """The tensors in the model folder `model`; only names and headers are read.

    Args:
        model: A folder with weights.
        asked: What was asked for, for the message.
        variant: Which one to read; None: the plain files, or the only variant that is there.
        any_variant: Whether any of several variants will do.

    Raises:
        V2WError: If there are none, several that could be meant, or none that can be read.
    """
    found = find_weights(model, asked, variant, any_variant=any_variant)
    tensors, notes = read_index(found.file, asked) if found.is_index else (read_tensors(found.file), [])
    files = tuple(sorted({info.file for info in tensors.values()}))
    if not files:
        raise V2WError(asked, f"{found.file} holds no tensor")
    if found.kind == "bin":
        notes.append(f"{found.file.name} is what torch.save wrote; its tensors are stored as safetensors")
    aside = [name for name in names_in(model) if is_weights_name(name)]
    if aside := [name for name in aside if name != found.file.name and model / name not in files]:
        notes.append(f"{found.file.name} is read; {few(aside)} ignored")
    return Weights(tensors, found.file, files, tuple(notes))


def is_weights_name(name: str) -> bool:
    """Whether a file of that name in a model's folder is one of its weight files, read or not."""
    return name.startswith(OWN_PREFIXES) or any(
        pattern.fullmatch(name) is not None for pattern in (FILE, INDEX, SHARD)
    )


def find_weights(model: Path, asked: str, variant: str | None = None, *, any_variant: bool = False) -> Found:
    """Which file to read.

    As diffusers looks: no variant before one, safetensors before what torch.save wrote, shards before one file. A
    dangling link counts: it is refused on reading.

    Raises:
        V2WError: As `read_weights_of` does.
    """
    names = [path.name for path in listed(model)]
    found = [one for name in names if (one := _parse(model / name)) is not None]
    variants = sorted({one.variant for one in found if one.variant is not None})
    if variant is not None:
        if variant not in variants:
            has = f"it has {', '.join(variants)}" if variants else "it has none"
            raise V2WError(asked, f"no variant {variant!r} of the weights in {model}; {has}")
        found = [one for one in found if one.variant == variant]
    elif len(variants) > 1 and not any_variant and all(one.variant is not None for one in found):
        raise V2WError(
            asked,
            f"the weights in {model} are there in several variants: {', '.join(variants)}",
            f"--variant {variants[0]}",
        )
    if found:
        return min(found, key=lambda one: (one.variant is not None, KINDS.index(one.kind), not one.is_index))
    if shards := [name for name in names if SHARD.fullmatch(name)]:
        raise NoWeights(
            asked,
            f"{model} has shards ({few(shards)}), but not the index that says what they hold",
            f"download {shards[0].split('-0')[0]}.safetensors.index.json, too",
        )
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        raise NoWeights(
            asked,
            f"no {WEIGHTS_FILE} in {model}, only {few(pickles)}, whose names do not say what they hold",
            f"rename it diffusion_pytorch_model.bin, if it has this model's weights; or the file itself: {model / pickles[0]}",
        )
    raise NoWeights(
        asked, f"no {WEIGHTS_FILE} in {model}; it has {few(names_in(model))}", "download the folder again"
    )


def _parse(file: Path) -> Found | None:
    for pattern in (FILE, INDEX):
        if (match := pattern.fullmatch(file.name)) is not None and not SHARD.fullmatch(file.name):
            return Found(file, match["kind"], match["variant"], pattern is INDEX)
    return None


def read_tensors(file: Path) -> dict[str, TensorInfo]:
    """The tensors of one weight file.

    Raises:
        V2WError: If it is of another format or malformed, or holds a tensor that cannot be read.
    """
    content = read_file(file)
    if (
        content.pickled and file.suffix == ".safetensors"
    ):  # whoever reads the converted folder believes the name
        raise V2WError(
            f"read {file}", "a file that torch.save wrote, not safetensors", "give it the ending .bin"
        )
    if content.unread:
        raise V2WError(f"read {file}", first([f"{name} {why}" for name, why in content.unread.items()]))
    return content.tensors


def read_index(index_file: Path, asked: str) -> tuple[dict[str, TensorInfo], list[str]]:
    """The tensors of all shards that the index names, and notes on harmless oddities.

    Raises:
        V2WError: If a shard is missing or elsewhere, or index and shards contradict each other.
    """
    index = read_object(index_file)
    shard_of = _shard_of(index, index_file)
    _require_shards(shard_of, index_file, asked)
    tensors: dict[str, TensorInfo] = {}
    faults = []
    for shard in sorted(set(shard_of.values())):
        for key, info in read_tensors(index_file.with_name(shard)).items():
            if key in tensors:
                faults.append(f"{key} is in two shards, {tensors[key].file.name} and {shard}")
            elif key not in shard_of:
                faults.append(f"{key} is in {shard} but not in the index")
            tensors[key] = info
    for key, shard in shard_of.items():
        if key not in tensors:
            faults.append(f"{key} is in the index but not in {shard}")
        elif tensors[key].file.name != shard:
            faults.append(f"{key} is in {tensors[key].file.name}, but the index says {shard}")
    if faults:
        raise V2WError(f"read {index_file}", first(faults), "download the index and the shards again")

    size = sum(info.size for info in tensors.values())
    metadata = index.get("metadata")
    stated = metadata.get("total_size", size) if isinstance(metadata, dict) else size
    notes = [f"{index_file.name} says {stated} bytes, the shards hold {size}"] if stated != size else []
    return tensors, notes


def require_files(model: Path, asked: str) -> None:
    """Check that the weights in a model's folder are there, without reading them.

    Raises:
        V2WError: If there are none, or not all shards.
    """
    found = find_weights(model, asked, any_variant=True)
    if found.is_index:
        _require_shards(_shard_of(read_object(found.file), found.file), found.file, asked)


def _require_shards(shard_of: dict[str, str], index_file: Path, asked: str) -> None:
    shards = sorted(set(shard_of.values()))
    missing = [shard for shard in shards if not os.path.lexists(index_file.with_name(shard))]
    if missing:
        folder = index_file.parent
        whole = [name for name in names_in(folder) if FILE.fullmatch(name) and not SHARD.fullmatch(name)]
        raise NoWeights(
            asked,
            f"{len(missing)} of {len(shards)} shards are missing: {', '.join(missing)}",
            f"delete the index, if {whole[0]} is the model" if whole else "download the folder again",
        )


def _shard_of(index: dict[str, Any], index_file: Path) -> dict[str, str]:
    """The index's weight_map. Names from a file may point anywhere: only plain names of files beside it are followed."""
    shard_of = index.get("weight_map")
    if not isinstance(shard_of, dict):
        raise V2WError(f"read {index_file}", "no weight_map", "download or save the file again")
    kind = "bin" if ".bin.index" in index_file.name else "safetensors"
    bad = [
        f"{key:.200}: {reprlib.repr(shard)} is not a plain name of a {kind} file"
        for key, shard in shard_of.items()
        if not (isinstance(shard, str) and SHARD_NAME.fullmatch(shard) and shard.endswith(f".{kind}"))
    ]
    if bad:
        raise V2WError(f"read {index_file}", first(bad))
    return shard_of
