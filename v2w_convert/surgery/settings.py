"""Settings of `inspect` and `convert`. Importing this module is cheap: neither torch nor diffusers."""

from typing import Literal, Self

from pydantic import Field, model_validator

from v2w_convert.data.settings import DataSettings
from v2w_convert.settings import MAX_COUNT, Count, Name, Prompt, Seed, SettingPath, Settings

MAX_ACTION_DIM = 100_000
VARIANT = r"^[A-Za-z0-9_-]{1,40}$"


class InspectSettings(Settings):
    """How to inspect a base."""

    plan: SettingPath | None = Field(
        default=None, description="plan to try; default: the shipped plan that fits"
    )
    variant: str | None = Field(
        default=None,
        pattern=VARIANT,
        description="which variant of the base's weights to read, such as fp16; default: the plain ones, if they are there",
    )
    ema: bool | None = Field(
        default=None,
        description="where the base has both, read the average of its weights over training, or the weights themselves",
    )


class ConvertSettings(DataSettings):
    """How to convert a base into a world model. What is said of reading data holds for finetuning, too."""

    action_dim: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ACTION_DIM,
        description="numbers in one action, times the video frames that make one latent frame",
    )
    data: SettingPath | None = Field(
        default=None,
        description="data set that the model will be trained on, to read the action dimension from it",
    )
    plan: SettingPath | None = Field(
        default=None, description="plan to apply; default: the shipped plan that fits"
    )
    variant: str | None = Field(
        default=None,
        pattern=VARIANT,
        description="which variant of the base's weights to read, such as fp16; default: the plain ones, if they are there",
    )
    ema: bool | None = Field(
        default=None,
        description="where the base has both, read the average of its weights over training, or the weights themselves",
    )
    transfer: Literal["shift", "masked", "extrapolative"] | None = Field(
        default=None,
        description="how kernels of temporal convolutions become causal; default: as the plan says",
    )
    frames_per_block: Count | None = Field(
        default=None, description="latent frames denoised together; default: as the plan says"
    )
    window: Count | None = Field(
        default=None,
        description="latent frames in the context, the current ones included; default: as the plan says",
    )
    sinks: int | None = Field(
        default=None,
        ge=0,
        le=MAX_COUNT,
        description="first latent frames that stay in the context for ever; default: as the plan says",
    )
    conditions: SettingPath | None = Field(
        default=None, description="safetensors file with the conditions to use where a caller passes none"
    )
    prompt: Prompt | None = Field(
        default=None,
        description="prompt whose embedding, by the base's own encoders, to use where a caller passes none; default: "
        "the empty prompt, where the base has encoders",
    )
    device: Name = Field(
        default="auto", description="where the prompt is encoded: auto, cpu, cuda, cuda:1, mps"
    )
    repair: bool = Field(
        default=False,
        description="repair the layers that let frames of a released Vid2World model see later ones",
    )
    seed: Seed = Field(default=0, description="seed of the added weights")
    link: bool = Field(
        default=False, description="hard-link files that are copied unchanged; editing one then edits both"
    )
    dry_run: bool = Field(
        default=False, description="report what would change and the disk space needed; write nothing"
    )
    verify: bool = Field(
        default=False,
        description="then verify the result and write the outcome into its model card; exit 1 on failure",
    )
    push_to_hub: Name | None = Field(
        default=None,
        description="repository on the Hugging Face Hub (OWNER/NAME) to upload the result to, if it holds what was "
        "verified; made private, if it is not there",
    )

    @model_validator(mode="after")
    def _exclusive(self) -> Self:
        if (self.action_dim is None) == (self.data is None):
            both = "both `action_dim` and `data`" if self.data else "neither `action_dim` nor `data`"
            raise ValueError(f"{both}, of which it can be read: give one of them")
        if self.verify and self.dry_run:
            raise ValueError("`verify` and `dry_run`: after a dry run there is nothing to verify")
        if self.push_to_hub is not None and self.dry_run:
            raise ValueError("`push_to_hub` and `dry_run`: after a dry run there is nothing to upload")
        if self.plan is not None and self.repair:
            raise ValueError("both `plan` and `repair`, which chooses a plan: give one of them")
        if self.prompt is not None and self.conditions is not None:
            raise ValueError("both `prompt` and `conditions`, which holds its embedding: give one of them")
        return self
