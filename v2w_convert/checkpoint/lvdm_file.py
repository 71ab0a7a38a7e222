"""A single-file checkpoint in the LVDM layout (DynamiCrafter, Vid2World): all models in one file, without a config."""

from pathlib import Path
from typing import Any

import numpy as np

from v2w_convert.checkpoint import lvdm
from v2w_convert.checkpoint.autoencoder import to_diffusers
from v2w_convert.checkpoint.content import FileContent
from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.names import DENOISER
from v2w_convert.checkpoint.source import BundledModel, Source, read_tensor
from v2w_convert.errors import V2WError

AUTOENCODER = "first_stage_model."
# Encoders of conditions. They are not run: the user gives their outputs.
CONDITIONERS = {
    "cond_stage_model.": "the prompt's encoder",
    "embedder.": "the image's encoder",
    "image_proj_model.": "the image's projection",
}
LATENTS = "image_proj_model.latents"
TABLES = ("betas", "alphas_cumprod")


def open_lvdm(file: Path, read: FileContent) -> Source:
    """The checkpoint in `file`, in the layout of LVDM.

    Nothing is read but names, shapes and the schedule's tables. The denoiser becomes `unet`, the autoencoder
    `vae`, the schedule `scheduler`, as in a pipeline folder.

    Raises:
        V2WError: If it lacks what tells the config.
    """
    asked = f"open {file}"
    unet = tensors_under(read.tensors, DENOISER)
    trained = lvdm.is_vid2world(unet)
    if trained and "out.2.conv2d.weight" not in unet:
        raise V2WError(asked, f"it has the Vid2World layout, but {DENOISER}out.2.conv2d.weight is missing")
    unet = {lvdm.plain_name(name): info for name, info in unet.items()}
    faults = [
        f"{name} {why}" for name, why in read.unread.items() if name.startswith((DENOISER, AUTOENCODER))
    ]
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
    if encoded := tensors_under(read.tensors, AUTOENCODER):
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
        pipeline=config["_class_name"].removesuffix("UNet") + "Pipeline",
        renamed=True,
    )


def tensors_under(tensors: dict[str, TensorInfo], prefix: str) -> dict[str, TensorInfo]:
    """Those whose names begin with `prefix`, without it."""
    found = {n.removeprefix(prefix): info for n, info in tensors.items() if n.startswith(prefix)}
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
