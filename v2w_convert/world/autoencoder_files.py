"""The autoencoder in a pipeline folder, as its files describe it: found like the denoiser's weights, and checked whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.listing import few
from v2w_convert.checkpoint.names import without_wrappers
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.checkpoint.unusable import check_config_usable, check_tensors_usable
from v2w_convert.checkpoint.weights import read_weights_of
from v2w_convert.errors import V2WError, one_line
from v2w_convert.families.build import build_empty, build_model, require_shapes
from v2w_convert.links import refuse_links_out
from v2w_convert.strict_json import read_object
from v2w_convert.world.finite import is_finite
from v2w_convert.world.vae_kinds import KINDS, REFUSED, check_numbers

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
    file = home / "config.json"
    if not file.is_file():
        raise V2WError(asked, "there is no vae/config.json", "a pipeline folder, not a bare denoiser")
    refuse_links_out((file,), folder, asked)
    config = read_object(file)
    _require_served(config, asked)
    check_config_usable(config, file, asked)
    weights = read_weights_of(home, asked, any_variant=True)
    refuse_links_out((weights.file, *weights.files), folder, asked)
    tensors, _ = without_wrappers(weights.tensors, asked)
    check_tensors_usable(tensors, asked)
    return build_autoencoder(config, tensors, f"{asked} ({file})")


def build_autoencoder(
    config: dict[str, Any], tensors: Mapping[str, TensorInfo], asked: str
) -> AutoencoderFiles:
    """The autoencoder that a config describes, with these tensors; as diffusers does, more of them are ignored.

    Raises:
        V2WError: Its class is not served, its config describes none, or a parameter is missing or of another shape.
    """
    name = _require_served(config, asked)
    own, again = dict(tensors), f"download vae/ again, or {WITHOUT}"
    try:
        empty = build_empty(name, config)
        empty._fix_state_dict_keys_on_load(own)  # names of attention from before diffusers 0.17
    except Exception as error:  # whatever its class raises for a bad config
        raise V2WError(asked, one_line(error), again) from None
    try:
        require_shapes(empty, {key: info.shape for key, info in own.items()})
    except ValueError as error:
        raise V2WError(asked, str(error), again) from None
    try:
        model: Any = build_model(name, config, unfilled=True)
        check_numbers(model, KINDS[name])
    except Exception as error:
        raise V2WError(asked, one_line(error), again) from None
    return AutoencoderFiles(model, own)


def read_autoencoder(files: AutoencoderFiles, asked: str) -> Any:
    """The model with its values, float32.

    Raises:
        V2WError: A tensor cannot be read, or holds a number that is not finite.
    """
    own = files.model.state_dict()
    values = {name: read_tensor(info) for name, info in files.tensors.items() if name in own}
    values = {name: v.to(torch.float32) if v.is_floating_point() else v for name, v in values.items()}
    if faults := [name for name, value in values.items() if not is_finite(value)]:
        raise V2WError(
            asked, f"vae: {few(faults[:3])} has numbers that are not finite", "download vae/ again"
        )
    files.model.load_state_dict(values, strict=False, assign=True)
    return files.model


def _require_served(config: Mapping[str, Any], asked: str) -> str:
    """The class that the config names; V2WError if it is not served."""
    name = str(config.get("_class_name"))
    if name not in KINDS:
        reason = f": {REFUSED[name]}" if name in REFUSED else ""
        raise V2WError(asked, f"its class is {name:.200}{reason}", f"one of {', '.join(KINDS)}; or {WITHOUT}")
    return name
