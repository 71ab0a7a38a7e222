"""A folder as its makers publish it: which of its files is the denoiser."""

from dataclasses import replace
from pathlib import Path

from v2w_convert.checkpoint.content import FileContent
from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.layouts import find_layout
from v2w_convert.checkpoint.layouts.mapping import map_tensors
from v2w_convert.checkpoint.layouts.wan import (
    AUTOENCODER,
    AUTOENCODER_FILE,
    AUTOENCODER_MAPPING,
    CLASSES,
    EXPERTS,
)
from v2w_convert.checkpoint.listing import few, listed, names_in, walk
from v2w_convert.checkpoint.original import open_original
from v2w_convert.checkpoint.own import own_tensors
from v2w_convert.checkpoint.single_file import open_file
from v2w_convert.checkpoint.source import BundledModel, Choice, Source
from v2w_convert.checkpoint.weights import read_tensors, read_weights_of
from v2w_convert.errors import V2WError
from v2w_convert.links import refuse_links_out
from v2w_convert.strict_json import read_object

STATES = "mp_rank_00_model_states.pt"  # as DeepSpeed names a whole model's: HunyuanVideo, CogVideoX
DEPTH = 4  # folders within folders that are looked into for it


def open_original_folder(folder: Path, asked: str, choice: Choice) -> Source | None:
    """The checkpoint in a folder that is none of diffusers'; None: nothing that is known.

    Raises:
        V2WError: If it is one, but cannot be read, or has several models.
    """
    names = names_in(folder)
    if {f"{name}/" for name in EXPERTS} <= {*names}:
        raise V2WError(
            asked,
            f"Wan 2.2 in its makers' layout, of two models: {' and '.join(EXPERTS)}",
            f"Wan-AI/Wan2.2-T2V-A14B-Diffusers, for both; or one alone: {folder / EXPERTS[1]}",
        )
    config = folder / "config.json"
    if config.is_file() and read_object(config).get("_class_name") in CLASSES:
        return _open_wan(folder, asked, choice)
    if config.exists():
        return None
    fitting = [file for file in listed(folder) if file.suffix == ".safetensors" and _is_original(file)]
    refuse_links_out(fitting, folder, asked)
    if len(fitting) == 1 and choice.variant is None:
        return open_file(fitting[0], choice)
    if fitting:
        raise V2WError(
            asked,
            f"{len(fitting)} models, each in a file ({few([f.name for f in fitting])})",
            str(fitting[0]),
        )
    states = [
        file for file in walk(folder) if file.name == STATES and len(file.relative_to(folder).parts) <= DEPTH
    ]
    if states:
        raise V2WError(asked, "a folder in its makers' layout, whose model is one file in it", str(states[0]))
    return None


def _is_original(file: Path) -> bool:
    try:
        return find_layout(read_tensors(file)) is not None
    except V2WError:
        return False


def _open_wan(folder: Path, asked: str, choice: Choice) -> Source:
    weights = read_weights_of(folder, asked, choice.variant, any_variant=choice.first)
    refuse_links_out((weights.file, *weights.files, folder / AUTOENCODER_FILE), folder, asked)
    tensors, notes = own_tensors(weights.tensors, choice, asked)
    content = FileContent(tensors, {}, (*weights.notes, *notes))
    found = find_layout(content.tensors)
    if found is None:
        raise V2WError(
            asked,
            f"config.json names {CLASSES[0]}, but {weights.file.name} has not its tensors; it has {few(list(tensors)[:3])}",
            "download the folder again",
        )
    source = open_original(
        folder,
        list(weights.files),
        content,
        *found,
        read_object(folder / "config.json"),
        _autoencoder(folder),
    )
    aside = [path.name for path in listed(folder) if path not in weights.files and path != weights.file]
    aside = [
        name
        for name in aside
        if name not in ("config.json", *([AUTOENCODER_FILE] if source.autoencoder else []))
    ]
    more = (f"not copied: {few(aside)}",) if aside else ()
    return replace(source, notes=(*source.notes, *more), choice=choice)


def _autoencoder(folder: Path) -> BundledModel | None:
    """Wan 2.1's, whose config is its class's default."""
    file = folder / AUTOENCODER_FILE
    if not file.is_file():
        return None
    tensors: dict[str, TensorInfo] = read_tensors(file)
    try:
        return BundledModel(AUTOENCODER, map_tensors(AUTOENCODER_MAPPING, tensors))
    except ValueError as error:
        raise V2WError(
            f"read {file}", str(error), "download the file again, or move it away to convert without it"
        ) from None
