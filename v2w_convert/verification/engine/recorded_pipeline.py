"""What a family's own pipeline gives the denoiser, recorded at its first step; no denoiser is run."""

import inspect
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import PIL.Image
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from v2w_convert.console import quiet_libraries
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.call import Conditions, ResolvedCall, call_base
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.claim import nan_max
from v2w_convert.verification.engine.pipelines import PIPELINES, Asked
from v2w_convert.world.vae import VAE

Arguments = dict[str, Any]


class Recorded(BaseException):
    """Ends a pipeline at its first step. No `Exception`: nothing on the way may take it for a failure.

    Attributes:
        arguments: Of the denoiser's forward, by name.
    """

    def __init__(self, arguments: Arguments):
        super().__init__()
        self.arguments = arguments


class Recorder(nn.Module):
    """Stands for a denoiser: has its config and its attributes, and raises `Recorded` where it would run."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, base: Any):
        """Stand for `base`, which may be on the meta device."""
        super().__init__()
        self._base = (base,)  # not registered as a child, whose device a pipeline would look at
        self._signature = inspect.signature(base.forward)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattribute__("_base")[0], name)

    def cache_context(self, *_: Any, **__: Any) -> AbstractContextManager[None]:
        """Nothing is cached."""
        return nullcontext()

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """End the pipeline."""
        given = self._signature.bind_partial(*args, **kwargs).arguments
        raise Recorded({name: value for name, value in given.items() if not self._is_default(name, value)})

    def _is_default(self, name: str, value: Any) -> bool:
        default = self._signature.parameters[name].default
        return value is None or (isinstance(value, bool | str) and value == default)


class Mode:
    """An autoencoder whose posterior is its mode where a pipeline would sample it."""

    def __init__(self, autoencoder: Any):
        """Stand for `autoencoder`."""
        self._autoencoder = autoencoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._autoencoder, name)

    def encode(self, pictures: Tensor) -> Any:
        """As the autoencoder does."""
        encoded = self._autoencoder.encode(pictures)
        encoded.latent_dist.sample = lambda *_, **__: encoded.latent_dist.mode()
        return encoded


def record_pipeline(
    resolved: ResolvedPlan,
    given: Mapping[str, Tensor],
    frames: int,
    size: tuple[int, int],
    vae: VAE | None = None,
    picture: Tensor | None = None,
) -> Arguments:
    """The arguments that the family's pipeline gives the denoiser at its first step.

    Args:
        resolved: The plan.
        given: Embeddings and masks by the plan's names, (1 …).
        frames: Latent frames of the clip.
        size: Height and width of pictures.
        vae: The folder's autoencoder.
        picture: (height width 3) uint8, the first frame; None: the base takes none.

    Raises:
        ImportError: transformers is not installed.
    """
    asked = Asked(
        Recorder(resolved.base),
        resolved.config,
        None if vae is None else Mode(vae.autoencoder),
        None if picture is None else PIL.Image.fromarray(picture.numpy()),
        *size,
        frames,
        resolved.call.channels,
        given,
        torch.Generator().manual_seed(0),
    )
    with quiet_libraries():
        made, arguments = PIPELINES[resolved.plan.name].call(asked)
        try:
            made(**arguments)
        except Recorded as recorded:
            return recorded.arguments
    raise RuntimeError("the pipeline never called the denoiser")


def record_call(
    resolved: ResolvedPlan, latents: Tensor, timestep: Tensor, conditions: Conditions
) -> Arguments:
    """The arguments that the plan's call gives the denoiser. Parameters as in `call_base`."""
    try:
        call_base(Recorder(resolved.base), resolved.call, latents, timestep, conditions)
    except Recorded as recorded:
        return recorded.arguments
    raise AssertionError


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference over theirs' largest value, of all numbers in two arguments; infinite if shapes differ.

    Axes of length 1 do not count: a forward views what it receives.
    """
    pairs = [[torch.as_tensor(x).double().squeeze() for x in tree_leaves(each)] for each in (ours, theirs)]
    if [x.shape for x in pairs[0]] != [x.shape for x in pairs[1]]:
        return math.inf
    largest = max((float(x.abs().max()) for x in pairs[1] if x.numel()), default=0.0)
    apart = nan_max(max_abs_diff(a, b) for a, b in zip(*pairs, strict=True) if a.numel())
    return apart / (largest or 1.0)


def frames_of(arguments: Arguments, call: ResolvedCall) -> Tensor:
    """The frames (b t c h w) among the arguments, with the channels of concatenated conditions."""
    sizes = {letter: arguments[name] for name, letter in call.size_arguments.items()}
    frames: Tensor = rearrange(arguments[call.argument], f"{call.layout} -> b t c h w", **sizes)
    return frames
