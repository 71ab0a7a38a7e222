"""A checkpoint to convert: its weights as named tensors, and its other files."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.read_tensor import read_tensor as read_tensor

COMPONENTS = ("unet", "transformer")
MANIFEST = "v2w.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
WEIGHTS_INDEX = f"{WEIGHTS_FILE}.index.json"


@dataclass(frozen=True)
class Choice:
    """Which of several weights of one model to read.

    Attributes:
        variant: Of the files, such as "fp16"; None: those of no variant, if they are there.
        ema: The average of the weights over training (True), or the weights themselves (False); None: there must
            be only one of both.
        first: Take the first where several could be meant, for whoever needs the config only.
    """

    variant: str | None = None
    ema: bool | None = None
    first: bool = False


@dataclass(frozen=True)
class BundledModel:
    """Another model bundled in a single-file checkpoint: its config and its tensors by name."""

    config: dict[str, Any]
    tensors: dict[str, TensorInfo]


@dataclass(frozen=True)
class Source:
    """A checkpoint as its files describe it; no weight has been read.

    Attributes:
        folder: The path given: a pipeline folder, a bare model folder, or a single file.
        component: Where in a folder the model lies: "unet", "transformer", "transformer_2" of a `low_noise` expert,
            or "" in a bare model folder. Of a single file: where a pipeline folder would have it.
        config: The model's config.json.
        tensors: The model's tensors by name, those of all shards together.
        scheduler: A pipeline's scheduler/scheduler_config.json.
        files: The weight files that hold `tensors`.
        others: All else to be copied along, relative to `folder`: not the model's config.json, none of its
            weights (stale variants included), nothing hidden, no link out of the folder.
        converted: Whether v2w.json lies at the root, so that this is an output, not a base.
        notes: What is not read, in sentences for the user.
        autoencoder: That of a checkpoint of which a pipeline folder is made; a pipeline folder's is among
            `others`.
        text_encoder: A single file's tensors of OpenCLIP's text encoder, by its names, where they are all there.
        pipeline: Class of the pipeline folder that is made of it, where it is none: a single file, or a folder as
            its makers publish it. Of a diffusers folder "".
        renamed: Whether its files have other tensors, or other names for them, than `tensors` has.
        choice: What was chosen of several weights.
        low_noise: A second denoiser, for the noise levels below `boundary`; this is then the high-noise one. `others`
            are both's.
        boundary: Where the second one's levels end, as a share of the training timesteps.
    """

    folder: Path
    component: str
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    scheduler: dict[str, Any] | None
    files: tuple[Path, ...]
    others: tuple[Path, ...]
    converted: bool
    notes: tuple[str, ...]
    autoencoder: BundledModel | None = None
    text_encoder: dict[str, TensorInfo] = field(default_factory=dict)
    pipeline: str = ""
    renamed: bool = False
    choice: Choice = Choice()
    low_noise: "Source | None" = None
    boundary: float | None = None

    @property
    def experts(self) -> "dict[str, Source]":
        """Its denoisers, each as if it were the only one, by name: "high" and "low", or one named ""."""
        if self.low_noise is None:
            return {"": self}
        return {"high": replace(self, low_noise=None, boundary=None), "low": self.low_noise}

    @property
    def has_updates(self) -> bool:
        """Whether updates of low rank are added to its weights when they are read."""
        return any(info.update is not None for info in self.tensors.values())

    @property
    def class_name(self) -> str:
        name: str = self.config["_class_name"]
        return name
