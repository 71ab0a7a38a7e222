"""The autoencoder in a pipeline folder, as its files describe it: found like the denoiser's weights, and checked whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.names import without_wrappers
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.checkpoint.unusable import check_config_usable, check_tensors_usable
from v2w_convert.checkpoint.weights import read_weights_of
from v2w_convert.errors import V2WError, one_line
from v2w_convert.families.build import build_model
from v2w_convert.links import refuse_links_out
from v2w_convert.strict_json import read_object
from v2w_convert.world.vae_kinds import KINDS, REFUSED

FOLDER = "vae"
WITHOUT = "move vae/ away to convert the denoiser alone, which `v2w finetune` cannot train"


@dataclass(frozen=True)
class AutoencoderFiles:
    """An autoencoder that can be read; no weight has been.

    Attributes:
        model: Of diffusers, its parameters without values.
        tensors: Its own, by name.
    """

    model: Any
    tensors: dict[str, TensorInfo]


def find_autoencoder(folder: Path) -> AutoencoderFiles:
    """The autoencoder in `folder`/vae.

    Raises:
        V2WError: There is none, one of a class that is not served, or one whose weights are not those of its config.
    """
    asked = f"read the autoencoder of {folder}"
    home = folder / FOLDER
    if not (home / "config.json").is_file():
        raise V2WError(asked, "there is no vae/config.json", "a pipeline folder, not a bare denoiser")
    config = read_object(home / "config.json")
    name = config.get("_class_name")
    if name not in KINDS:
        reason = f": {REFUSED[name]}" if name in REFUSED else ""
        raise V2WError(asked, f"its class is {name}{reason}", f"one of {', '.join(KINDS)}; or {WITHOUT}")
    check_config_usable(config, home / "config.json", asked)
    weights = read_weights_of(home, asked, any_variant=True)
    refuse_links_out((home / "config.json", weights.file, *weights.files), folder, asked)
    tensors, _ = without_wrappers(weights.tensors, asked)
    check_tensors_usable(tensors, asked)
    try:
        model: Any = build_model(name, config, unfilled=True)
    except Exception as error:  # whatever its class raises for a bad config
        raise V2WError(asked, f"{home / 'config.json'}: {one_line(error)}") from None
    tensors = dict(tensors)
    model._fix_state_dict_keys_on_load(tensors)  # names of attention from before diffusers 0.17
    check_autoencoder_tensors(model, tensors, asked)
    return AutoencoderFiles(model, tensors)


def check_autoencoder_tensors(model: Any, tensors: dict[str, TensorInfo], asked: str) -> None:
    """Compare tensors with a model's parameters. More of them are ignored, as diffusers does.

    Raises:
        V2WError: A parameter is missing, or of another shape.
    """
    faults = []
    for name, value in model.named_parameters():
        found = tensors[name].shape if name in tensors else "missing"
        if found != tuple(value.shape):
            faults.append(f"{name} is {found}, its config.json says {tuple(value.shape)}")
    if faults:
        more = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
        raise V2WError(asked, faults[:3] + more, f"download vae/ again, or {WITHOUT}")


def read_autoencoder(files: AutoencoderFiles) -> Any:
    """The model with its values, float32."""
    own = files.model.state_dict()
    values = {name: read_tensor(info) for name, info in files.tensors.items() if name in own}
    values = {name: v.to(torch.float32) if v.is_floating_point() else v for name, v in values.items()}
    files.model.load_state_dict(values, strict=False, assign=True)
    return files.model
