"""Settings of an environment, as keyword arguments say them."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.settings import SamplingSettings
from v2w_convert.settings import Count, Prompt


class EnvSettings(SamplingSettings):
    """How frames are generated, as of rollouts, and what an agent is given."""

    observation: Literal["pixels", "latents"] = Field(
        default="pixels",
        description="pixels: uint8 (height, width, 3); latents: float32 (c, h, w), which are not decoded",
    )
    max_episode_steps: Count | None = Field(
        default=None, description="steps after which an episode is truncated"
    )
    prompt: Prompt | None = Field(
        default=None, description="prompt, by the base's own encoders; default: as the model was finetuned"
    )


def read_settings(given: dict[str, Any], asked: str) -> EnvSettings:
    """The settings of these keyword arguments.

    Raises:
        V2WError: With all faults.
    """
    if "seed" in given:
        raise V2WError(asked, "seed is no setting of an environment", "reset(seed=…)")
    try:
        return EnvSettings.model_validate(given)
    except ValidationError as error:
        faults = [
            ": ".join([*map(str, fault["loc"]), fault["msg"].removeprefix("Value error, ")])
            for fault in error.errors()
        ]
        raise V2WError(asked, faults, ", ".join(sorted(EnvSettings.model_fields.keys() - {"seed"}))) from None
