"""A checkpoint that is one file: what it holds decides who reads it."""

from dataclasses import replace
from pathlib import Path

from v2w_convert.checkpoint.content import FileContent, read_file
from v2w_convert.checkpoint.layouts import LAYOUTS, find_layout
from v2w_convert.checkpoint.layouts.others import name_other
from v2w_convert.checkpoint.listing import few
from v2w_convert.checkpoint.lvdm_file import open_lvdm
from v2w_convert.checkpoint.names import DENOISER, without_wrappers
from v2w_convert.checkpoint.original import open_original
from v2w_convert.checkpoint.own import own_tensors
from v2w_convert.checkpoint.source import Choice, Source
from v2w_convert.errors import V2WError

INPUT = f"{DENOISER}input_blocks.0.0."  # of a UNet in LDM's layout
TIME = ("temopral_conv", "init_attn")  # the source's spelling


def open_file(file: Path, choice: Choice = Choice()) -> Source:  # noqa: B008 (frozen)
    """The checkpoint in `file`, a safetensors file or one that torch.save wrote.

    Its layout is DynamiCrafter's, or one of those that diffusers maps. Nothing is read but names, shapes and tables
    of schedules.

    Raises:
        V2WError: If it is neither kind of file, or of another layout, or lacks what tells the config.
    """
    asked = f"open {file}"
    if not file.is_file():
        raise V2WError(asked, "neither a folder nor a regular file")
    if choice.variant is not None:
        raise V2WError(
            asked, "it is one file; variants are files beside each other", "the same without --variant"
        )
    content = _plain(read_file(file), choice, asked)
    found = find_layout(content.tensors)
    if found is not None:
        source = open_original(file, [file], content, *found)
    elif any(name.startswith(DENOISER) for name in content.tensors) and _is_lvdm(content):
        source = open_lvdm(file, content)
    else:
        raise _not_known(file, content)
    return replace(source, choice=choice)


def _plain(content: FileContent, choice: Choice, asked: str) -> FileContent:
    """The model's own names and weights."""
    tensors, notes = own_tensors(content.tensors, choice.ema, asked)
    unread, _ = without_wrappers(content.unread, asked)
    return FileContent(tensors, unread, (*content.notes, *notes))


def _is_lvdm(content: FileContent) -> bool:
    """Whether it is worth saying what DynamiCrafter's layout would need; an image model has no layer over time."""
    names = [name for name in (*content.tensors, *content.unread) if name.startswith(DENOISER)]
    return name_other(names) is None and (
        not any(name.startswith(INPUT) for name in names)
        or any(word in name for name in names for word in TIME)
    )


def _not_known(file: Path, content: FileContent) -> V2WError:
    asked, names = f"open {file}", list(content.tensors)
    folder = file.resolve().parent
    found = f"it has {few(names[:3])}" if names else "it has no tensors"
    if (folder.parent / "model_index.json").is_file():
        return V2WError(asked, f"one part of a pipeline folder ({found})", str(folder.parent))
    if (folder / "config.json").is_file():
        return V2WError(asked, f"weights of a model folder ({found})", str(folder))
    if (other := name_other(names)) is not None:
        return V2WError(asked, f"{other[0]} ({found})", other[1])
    if any(name.startswith(INPUT) for name in names):
        return V2WError(
            asked,
            f"an image model in one file: it has no layers over time to make causal ({found})",
            "a video model",
        )
    known = ", ".join(layout.model for layout in LAYOUTS)
    return V2WError(
        asked,
        f"of no layout that is known; {found}",
        f"a diffusers folder, or a file as the makers of {known} or DynamiCrafter publish it",
    )
