"""Conditions that are each rollout's own, as inputs of an exported graph."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.plan.condition import DTYPES
from v2w_convert.world.model import World

Array = NDArray[Any]
NUMPY: dict[str, type[np.generic]] = {"float": np.float32, "int64": np.int64, "bool": np.bool_}


class ConditionInput(BaseModel):
    """What a graph's input `condition.NAME` takes. The file's metadata holds these by NAME.

    Attributes:
        shape: (b …), the same for all frames of a rollout. Of a picture for every frame (b T c h w): frame i of the
            stream receives entry i, and the last entry holds for all frames after it.
        dtype: `float` is float32.
        source: What it is made of: the episode's task, or its first frame.
        later_frames: Of a picture for every frame, what later frames receive where (b c h w) is given, as plans say
            it; None: it is no such picture.
    """

    model_config = ConfigDict(frozen=True)
    shape: tuple[int, ...]
    dtype: Literal["float", "int64", "bool"]
    source: str
    later_frames: Literal["same", "zeros", "own"] | None

    def fitted(self, value: Array) -> Array | None:
        """A rollout's condition as the graph takes it.

        Args:
            value: Of this shape. Of a picture for every frame also (b c h w), if later frames have no entries of their
                own, or (b T' c h w): the last entry is repeated up to T, or its repetitions beyond T are left out.

        Returns:
            `shape`; None if `value` does not fit.
        """
        value = np.asarray(value)
        if self.later_frames is not None:
            if value.ndim == 4 and self.later_frames != "own":
                value = np.stack([value, np.zeros_like(value) if self.later_frames == "zeros" else value], 1)
            if value.ndim == 5 and value.shape[1]:
                entries = self.shape[1]
                last = min(entries, value.shape[1]) - 1
                if (value[:, last + 1 :] != value[:, last : last + 1]).any():
                    return None
                value = value.take(np.minimum(np.arange(entries), last), 1)
        return value.astype(NUMPY[self.dtype]) if value.shape == self.shape else None

    def draw(self, generator: torch.Generator) -> Tensor:
        """One at random, of this shape: normally distributed numbers, or masks of at least one token."""
        if self.dtype == "float":
            return torch.randn(self.shape, generator=generator)
        tokens = self.shape[-1]
        lengths = torch.randint(1, tokens + 1, (*self.shape[:-1], 1), generator=generator)
        return (torch.arange(tokens) < lengths).to(DTYPES[self.dtype])


def condition_inputs(
    world: World, sources: Mapping[str, str], size: tuple[int, int, int], frames: int
) -> dict[str, ConditionInput]:
    """The inputs for a world's conditions.

    Args:
        world: The world model.
        sources: What is each rollout's own: condition -> what it is made of.
        size: (b, h, w) of the latents.
        frames: Latent frames that a picture's conditions are made for, where each frame has its own.

    Returns:
        By condition. A picture for every frame has T = 1 entry where later frames receive the same, 2 where they
        receive zeros, and `frames` where they have their own. All others are as large as the stored ones.
    """
    b, h, w = size
    found = {}
    for name, source in sources.items():
        condition = world.resolved.call.conditions[name]
        if condition.is_per_frame:
            entries = {"same": 1, "zeros": 2, "own": frames}[condition.later_frames]
            shape = (b, entries, *condition.shape(h, w))
        else:
            shape = (b, *world.get_buffer(f"null_{name}").shape)
        found[name] = ConditionInput(
            shape=shape,
            dtype=condition.dtype,
            source=source,
            later_frames=condition.later_frames if condition.is_per_frame else None,
        )
    return found


def fit_conditions(inputs: Mapping[str, ConditionInput], given: Mapping[str, Array]) -> dict[str, Array]:
    """All conditions of a rollout as the graph's inputs take them, by condition.

    Raises:
        V2WError: One is missing, unknown, or of another shape; all faults are named.
    """
    faults = [f"{name} is not an input of this graph" for name in given.keys() - inputs.keys()]
    found = {}
    for name, wanted in inputs.items():
        if name not in given:
            faults.append(f"{name} (of the {wanted.source}) is missing: {wanted.shape}")
        elif (value := wanted.fitted(given[name])) is None:
            faults.append(f"{name} is {np.shape(given[name])}, not {wanted.shape}")
        else:
            found[name] = value
    if faults:
        names = ", ".join(inputs)
        raise V2WError(
            "start a rollout of the graph",
            sorted(faults),
            f"conditions with {names}" if names else "no conditions",
        )
    return found
