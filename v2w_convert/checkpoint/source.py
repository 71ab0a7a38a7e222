"""A checkpoint to convert: its weights as named tensors, and its other files."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_convert.checkpoint.headers import DTYPES, TensorInfo
from v2w_convert.errors import V2WError

if TYPE_CHECKING:
    import torch

COMPONENTS = ("unet", "transformer")
# In the order in which diffusers looks: shards before one file; the plain weights before a variant.
WEIGHTS = (
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.fp16.safetensors",
)
MANIFEST = "v2w.json"


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
        autoencoder: The one file's; a folder's is among `others`.
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
    low_noise: "Source | None" = None
    boundary: float | None = None

    @property
    def experts(self) -> "dict[str, Source]":
        """Its denoisers, each as if it were the only one, by name: "high" and "low", or one named ""."""
        if self.low_noise is None:
            return {"": self}
        return {"high": replace(self, low_noise=None, boundary=None), "low": self.low_noise}

    @property
    def is_file(self) -> bool:
        return self.files == (self.folder,)

    @property
    def class_name(self) -> str:
        name: str = self.config["_class_name"]
        return name


def read_tensor(info: TensorInfo) -> "torch.Tensor":
    """The tensor of shape `info.shape` in its stored dtype, in newly allocated memory.

    Raises:
        V2WError: If torch has no such dtype, or if the bytes are no longer there or not what their checksum
            says.
    """
    import torch

    name = DTYPES[info.dtype].torch
    if name is None:
        raise V2WError(f"read {info.file}", f"a tensor of dtype {info.dtype}, which torch cannot hold")
    data = torch.empty(info.stop - info.start, dtype=torch.uint8)
    try:
        with info.file.open("rb") as stream:
            stream.seek(info.start)
            count = stream.readinto(data.numpy().data)
    except OSError as error:
        raise V2WError(f"read {info.file}", error.strerror or str(error)) from None
    if count < len(data):
        raise V2WError(
            f"read {info.file}",
            f"it now ends before byte {info.stop}",
            "do not change the files during the run",
        )
    if info.crc is not None and zlib.crc32(data.numpy().data) != info.crc:
        raise V2WError(
            f"read {info.file}",
            f"bytes {info.start} to {info.stop} are damaged: they do not match the file's own checksum",
            "download the file again",
        )
    return data.view(getattr(torch, name)).reshape(info.shape)
