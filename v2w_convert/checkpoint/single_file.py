"""A single-file checkpoint in the LVDM layout (DynamiCrafter, Vid2World): all models in one file, without a config."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from v2w_convert.checkpoint import lvdm
from v2w_convert.checkpoint.autoencoder import to_diffusers
from v2w_convert.checkpoint.headers import MAX_HEADER_BYTES, TensorInfo, read_header
from v2w_convert.checkpoint.pickles import is_pickle, read_pickle
from v2w_convert.checkpoint.source import BundledModel, Source, read_tensor
from v2w_convert.errors import V2WError

DEEPSPEED_PREFIX = "_forward_module."
UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
# Encoders of conditions. They are not run: the user gives their outputs.
CONDITIONERS = {
    "cond_stage_model.": "the prompt's encoder",
    "embedder.": "the image's encoder",
    "image_proj_model.": "the image's projection",
}
LATENTS = "image_proj_model.latents"
TABLES = ("betas", "alphas_cumprod")


@dataclass(frozen=True)
class _FileContent:
    """Tensors by name, why others cannot be read, and sentences about the file."""

    tensors: dict[str, TensorInfo]
    unread: dict[str, str]
    notes: list[str]


def open_file(file: Path) -> Source:
    """The checkpoint in `file`, a safetensors file or one that torch.save wrote, in the layout of LVDM.

    Nothing is read but names, shapes and the schedule's tables. The denoiser becomes `unet`, the autoencoder
    `vae`, the schedule `scheduler`, as in a pipeline folder.

    Raises:
        V2WError: If it is neither kind of file, or of another layout, or lacks what tells the config.
    """
    asked = f"open {file}"
    read = _read(file)
    unet = _tensors_under(read, UNET)
    if not unet:
        raise _not_this_layout(file, read.tensors)
    trained = lvdm.is_vid2world(unet)
    if trained and "out.2.conv2d.weight" not in unet:
        raise V2WError(asked, f"it has the Vid2World layout, but {UNET}out.2.conv2d.weight is missing")
    unet = {lvdm.plain_name(name): info for name, info in unet.items()}
    faults = [f"{name} {why}" for name, why in read.unread.items() if name.startswith((UNET, AUTOENCODER))]
    if faults:
        raise V2WError(asked, faults[:5])
    try:
        scheduler, scale = _schedule(read.tensors)
        learnable = any(name.endswith(".alpha") for name in unet)
        latents = read.tensors.get(LATENTS)
        length = latents.shape[1] // lvdm.QUERIES if latents is not None and len(latents.shape) == 3 else 16
        rate = lvdm.VID2WORLD_FS if trained else lvdm.default_fs(learnable, scale)
        config = lvdm.unet_config(unet, rate, length)
        if trained:
            config = lvdm.vid2world_config(unet, config)
    except ValueError as error:
        raise V2WError(asked, f"it has the DynamiCrafter layout, but {error}") from None
    notes = list(read.notes)
    autoencoder = None
    if encoded := _tensors_under(read, AUTOENCODER):
        try:
            autoencoder = BundledModel(*to_diffusers(encoded))
        except ValueError as error:
            notes.append(f"the autoencoder ({AUTOENCODER}*) is ignored: {error}")
    else:
        notes.append(
            f"it has no autoencoder ({AUTOENCODER}*), which `v2w finetune` needs in the converted folder's vae/"
        )
    conditioners = [
        f"{prefix}* ({what})"
        for prefix, what in CONDITIONERS.items()
        if any(name.startswith(prefix) for name in read.tensors)
    ]
    if conditioners:
        notes.append(
            f"{', '.join(conditioners)} not used: these encoders produce conditions. Pass their outputs for your prompt and "
            "image by `v2w convert --conditions FILE`; otherwise null conditions are used"
        )
    return Source(
        folder=file,
        component="unet",
        config=config,
        tensors=dict(sorted(unet.items())),
        scheduler=scheduler,
        files=(file,),
        others=(),
        converted=False,
        notes=tuple(notes),
        autoencoder=autoencoder,
    )


def _read(file: Path) -> _FileContent:
    """The file's tensors; its first bytes decide its format, not its name."""
    if not file.is_file():
        raise V2WError(f"open {file}", "neither a folder nor a regular file")
    try:
        pickled = is_pickle(file)
        with file.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise V2WError(f"read {file}", error.strerror or str(error)) from None
    if start[:1] == b"\x80" and int.from_bytes(start, "little") > MAX_HEADER_BYTES:
        raise V2WError(
            f"read {file}",
            "a pickle of the form that torch wrote before version 1.6, which cannot be read safely",
            "where you trust it, load it with that torch and save its state_dict as safetensors",
        )
    if not pickled:
        return _FileContent(_without_wrapper(read_header(file)), {}, [])
    found = read_pickle(file)
    aside = f"ignored: {', '.join(found.aside[:8])}" + (
        f" and {len(found.aside) - 8} more" if len(found.aside) > 8 else ""
    )
    return _FileContent(
        _without_wrapper(found.tensors), _without_wrapper(found.unread), [aside] if found.aside else []
    )


def _without_wrapper(named: dict[str, Any]) -> dict[str, Any]:
    """The names without DeepSpeed's prefix."""
    if all(name.startswith(DEEPSPEED_PREFIX) for name in named):
        return {name.removeprefix(DEEPSPEED_PREFIX): value for name, value in named.items()}
    return named


def _tensors_under(read: _FileContent, prefix: str) -> dict[str, TensorInfo]:
    found = {n.removeprefix(prefix): info for n, info in read.tensors.items() if n.startswith(prefix)}
    found.pop("", None)
    return found


def _schedule(tensors: dict[str, TensorInfo]) -> tuple[dict[str, Any], float | None]:
    """The scheduler's config and, where the clean frames are scaled, down to what.

    Raises:
        ValueError: .
    """
    missing = [name for name in TABLES if name not in tensors]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing, which define its noise schedule")
    names = (*TABLES, "scale_arr", "sqrt_recip_alphas_cumprod")
    odd = [n for n in names if n in tensors and not (len(tensors[n].shape) == 1 and tensors[n].shape[0] > 1)]
    if odd:
        raise ValueError(f"{', '.join(odd)}: not a table")
    tables = {name: _numbers(tensors[name]) for name in names if name in tensors}
    betas, shares = tables["betas"], tables["alphas_cumprod"]
    if len(betas) != len(shares) or not (np.isfinite(betas).all() and np.isfinite(shares).all()):
        raise ValueError(f"{' and '.join(TABLES)} are not two tables of the same length")
    # Its own code fills this table with zeros exactly where the model predicts v.
    inverse = tables.get("sqrt_recip_alphas_cumprod")
    scheduler = lvdm.scheduler_config(betas, shares, inverse is not None and not inverse.any())
    if "scale_arr" not in tables:
        return scheduler, None
    scale = lvdm.base_scale(tables["scale_arr"])
    return scheduler | {"base_scale": scale}, scale


def _numbers(info: TensorInfo) -> np.ndarray:
    tensor = read_tensor(info)
    return (tensor.float() if info.dtype == "BF16" else tensor).numpy()  # numpy has no bfloat16


def _not_this_layout(file: Path, tensors: dict[str, TensorInfo]) -> V2WError:
    folder = file.resolve().parent
    asked = f"open {file}"
    found = f"no {UNET}* in it; it has {', '.join(list(tensors)[:3]) or 'no tensors'}"
    if (folder.parent / "model_index.json").is_file():
        return V2WError(asked, f"one part of a pipeline folder ({found})", str(folder.parent))
    if (folder / "config.json").is_file():
        return V2WError(asked, f"weights of a model folder ({found})", str(folder))
    return V2WError(asked, found, "a file in the layout of DynamiCrafter, or a diffusers folder")
