"""Call a base as its plan says: the plan's call with every expression over the base's config evaluated once."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.expression import evaluate_int, evaluate_number
from v2w_convert.families import COMPUTED_ARGUMENTS, IMAGE_CONDITIONS
from v2w_convert.families.image_conditions import Autoencoder
from v2w_convert.plan.condition import ResolvedCondition, Size
from v2w_convert.plan.grammar import Call, Condition

Conditions = dict[str, Tensor]
MAX_SIZE = 10_000  # frames or channels at once
MAX_NUMEL = 2**24  # numbers in a condition


@dataclass(frozen=True)
class ResolvedCall:
    """How one base is called, in plain numbers. Made by `resolve_call`.

    Attributes:
        argument: The base's argument for the noisy frames.
        layout: Of that argument and of the output, as einops writes it.
        channels: c, channels of a frame's latent.
        clip_length: The only number of frames that the base takes; None: any.
        frames_per_token: Latent frames that the base packs into one token.
        noise_level: The base's argument for the timestep.
        conditions: Those that this base takes, by name.
        constants: Arguments that are passed as they are.
        size_arguments: Arguments that receive one of the latents' sizes.
        computed_arguments: (t, h, w, text, latents) -> more arguments; None: there are none.
        image_conditions: Makes conditions of a clip's first picture; None: the base takes none that an autoencoder makes.
    """

    argument: str
    layout: str
    channels: int
    clip_length: int | None
    frames_per_token: int
    noise_level: str
    conditions: dict[str, ResolvedCondition]
    constants: dict[str, Any]
    size_arguments: dict[str, Literal["t", "h", "w"]]
    computed_arguments: "ComputedArguments | None"
    image_conditions: "ImageConditions | None" = None

    def null_conditions(self) -> Conditions:
        """The null conditions that a converted model stores: all but those which are as large as a frame."""
        return {name: c.null() for name, c in self.conditions.items() if not c.is_spatial}

    def faults(self) -> list[str]:
        """What is out of range, in sentences that begin with the field of the plan."""
        found = []
        sizes = {
            "channels": self.channels,
            "clip_length": self.clip_length or 1,
            "frames_per_token": self.frames_per_token,
        }
        for field, size in sizes.items():
            if not 1 <= size <= MAX_SIZE:
                found.append(f"call.latents.{field}: {size}, not 1 to {MAX_SIZE}")
        for name, condition in self.conditions.items():
            shape = condition.shape(h=1, w=1)
            last = shape[-1] if shape else 1
            if min(shape, default=0) < 0 or math.prod(shape) > MAX_NUMEL:
                found.append(f"call.conditions.{name}: a shape of {shape}")
            elif isinstance(condition.fill, list) and len(condition.fill) not in (1, last):
                numbers = len(condition.fill)
                found.append(f"call.conditions.{name}: {numbers} numbers do not fill a row of {last}")
        return found


@dataclass(frozen=True)
class ComputedArguments:
    """Arguments that a function of `v2w_convert.families` computes, bound to one base's config.

    Attributes:
        name: Of the function in `COMPUTED_ARGUMENTS`.
        config: The base's.
    """

    name: str
    config: Mapping[str, Any]

    def __call__(self, t: int, h: int, w: int, text: Tensor, like: Tensor) -> dict[str, Any]:
        return COMPUTED_ARGUMENTS[self.name](self.config, t, h, w, text, like)


@dataclass(frozen=True)
class ImageConditions:
    """What a family's pipeline makes of a clip's first picture: a function of `v2w_convert.families`, for one base.

    Attributes:
        name: Of the function in `IMAGE_CONDITIONS`.
        config: The base's.
        conditions: The picture-like ones that this base takes, by name.
    """

    name: str
    config: Mapping[str, Any]
    conditions: Mapping[str, ResolvedCondition]

    def __call__(
        self,
        vae: Autoencoder,
        picture: NDArray[np.uint8] | Tensor,
        frames: int,
        generator: torch.Generator | None = None,
    ) -> Conditions:
        """The conditions by name, without batch: one for each latent frame from the first on.

        Args:
            vae: The pipeline's autoencoder.
            picture: (height width 3) uint8, the clip's first frame.
            frames: T, latent frames: as many as the base has seen in training, if the stream is longer. The last one
                holds for all frames after it.
            generator: Of the noise that some pipelines add to the picture; None: the same noise every time.

        Returns:
            (T c h w) float32 each.

        Raises:
            V2WError: The autoencoder's latents do not fit the base.
        """
        generator = generator or torch.Generator().manual_seed(0)
        made = IMAGE_CONDITIONS[self.name](self.config, vae, torch.as_tensor(picture), frames, generator)
        taken = {name: made[name] for name in self.conditions.keys() & made.keys()}
        if faults := [
            f"{name} would have {x.shape[1]} channels, the base takes {self.conditions[name].shape()[0]}"
            for name, x in taken.items()
            if x.shape[1] != self.conditions[name].shape()[0]
        ]:
            raise V2WError(
                "make conditions of a picture", faults, "the autoencoder of the base's own pipeline"
            )
        return taken


def resolve_call(call: Call, config: Mapping[str, Any]) -> ResolvedCall:
    """The plan's call for a base with this config.

    Raises:
        ValueError: Expressions cannot be evaluated; one argument for each, which begins with the field of the plan.
    """
    faults: list[str] = []

    def evaluated(field: str, value: int | str) -> int:
        try:
            return evaluate_int(value, config)
        except ValueError as error:
            faults.append(f"call.{field}: {error}")
            return 0

    def condition(name: str, given: Condition) -> ResolvedCondition:
        field = f"conditions.{name}"
        sizes: list[Size] = []
        for size in given.shape:
            if size == "h":
                sizes.append("h")
            elif size == "w":
                sizes.append("w")
            elif size in call.token_counts:
                sizes.append("tokens")
            else:
                sizes.append(evaluated(field, size))
        fill: float | list[float] = 0.0
        try:
            fill = given.fill if isinstance(given.fill, list) else evaluate_number(given.fill, config)
        except ValueError as error:
            faults.append(f"call.{field}: {error}")
        return ResolvedCondition(
            argument=given.argument,
            sizes=tuple(sizes),
            default_tokens=tuple(call.token_counts.get(str(size), 0) for size in given.shape),
            fill=fill,
            dtype=given.dtype,
            layout=given.layout,
            later_frames=given.later_frames,
            repeat_per_frame=given.repeat_per_frame,
        )

    latents = call.latents
    conditions = {name: condition(name, given) for name, given in call.active_conditions(config).items()}
    # A text-to-video checkpoint takes no picture: its shape says so.
    conditions = {name: c for name, c in conditions.items() if 0 not in c.shape(1, 1, 1)}
    pictures = {name: c for name, c in conditions.items() if c.is_per_frame}
    resolved = ResolvedCall(
        argument=latents.argument,
        layout=latents.layout,
        channels=evaluated("latents.channels", latents.channels),
        clip_length=None if latents.clip_length is None else evaluated("latents.clip_length", latents.clip_length),
        frames_per_token=evaluated("latents.frames_per_token", latents.frames_per_token),
        noise_level=call.noise_level.argument,
        conditions=conditions,
        constants=dict(call.constants),
        size_arguments=dict(call.size_arguments),
        computed_arguments=None
        if call.computed_arguments is None
        else ComputedArguments(call.computed_arguments, config),
        image_conditions=None
        if call.image_conditions is None or not pictures
        else ImageConditions(call.image_conditions, config, pictures),
    )  # fmt: skip
    if faults:
        raise ValueError(*faults)
    return resolved


def per_frame_inputs(
    call: ResolvedCall, latents: Tensor, conditions: Conditions
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Conditions]]]:
    """All that a base receives for every frame, as one tensor, and the way back.

    Where frames of the former mix is where frames mix, of whatever the base receives. Only the first frame's conditions
    are always those that were given: some bases show that picture to every frame (I2VGen-XL), as if it were a prompt.

    Args:
        call: The base's.
        latents: (b t c h w).
        conditions: As `call_base` takes them.

    Returns:
        (b t c' h w), latents and after their channels those of conditions; and a function that makes latents and
        conditions of such a tensor, as `call_base` takes them.
    """
    every = torch.arange(latents.shape[1], device=latents.device)
    names = [name for name, condition in call.conditions.items() if condition.is_per_frame]
    pictures = [call.conditions[name].at_frames(conditions[name].to(latents), every) for name in names]
    channels = [x.shape[2] for x in (latents, *pictures)]

    def split(x: Tensor) -> tuple[Tensor, Conditions]:
        own, *others = x.split(channels, 2)
        kept = [
            torch.cat([first[:, :1], other[:, 1:]], 1) for first, other in zip(pictures, others, strict=True)
        ]
        return own, conditions | dict(zip(names, kept, strict=True))

    return torch.cat([latents, *pictures], 2), split


def call_base(
    model: nn.Module, call: ResolvedCall, latents: Tensor, timestep: Tensor, conditions: Conditions
) -> Tensor:
    """The base's output for clips.

    Args:
        model: The base.
        call: How it is called.
        latents: (b t c h w), noisy frames as the base expects them.
        timestep: (b,), the noise level as the base receives it.
        conditions: All of `call.conditions`, (b …): one of each for a clip. Of what the base receives for every frame
            also one for each, (b T c h w): see `ResolvedCondition.at_frames`.

    Returns:
        (b t c h w).
    """
    b, t, c, h, w = latents.shape
    sizes = {"t": t, "h": h, "w": w}
    concatenated: list[Tensor] = [latents]
    arguments: dict[str, Any] = {}
    for name, condition in call.conditions.items():
        value = conditions[name]
        if condition.dtype == "float":
            value = value.to(latents.dtype)
        if condition.is_per_frame and value.shape[:2] + value.shape[3:] != (b, t, h, w):
            value = condition.at_frames(value, torch.arange(t, device=value.device))
        if condition.argument is None:
            concatenated.append(value)
        else:
            if condition.layout is not None:
                value = rearrange(value, f"b t c h w -> {condition.layout}")
            arguments[condition.argument] = (
                value.repeat_interleave(t, 0) if condition.repeat_per_frame else value
            )
    arguments[call.argument] = rearrange(torch.cat(concatenated, 2), f"b t c h w -> {call.layout}")
    arguments[call.noise_level] = timestep
    arguments |= {name: sizes[letter] for name, letter in call.size_arguments.items()}
    arguments |= call.constants
    if call.computed_arguments is not None:
        arguments |= call.computed_arguments(t, h, w, conditions["text"], latents)
    output = model(**arguments, return_dict=False)
    if isinstance(output, tuple):
        output = output[0]
    # Some bases also predict a variance, in channels of its own after the ones asked for.
    frames: Tensor = rearrange(output, f"{call.layout} -> b t c h w", **sizes)
    return frames[:, :, :c]
