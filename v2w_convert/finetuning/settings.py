"""Settings of `finetune`. Nothing heavy is imported here: the command line reads its flags from them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from v2w_convert.data.settings import DataSettings
from v2w_convert.finetuning.memory_settings import MemorySettings
from v2w_convert.finetuning.objective_settings import ObjectiveSettings
from v2w_convert.finetuning.run_settings import RunSettings
from v2w_convert.finetuning.watch_settings import WatchSettings
from v2w_convert.settings import MAX_COUNT, MAX_SCALE, Count, Name, Scale, Seed, SettingPath


class FinetuneSettings(DataSettings, MemorySettings, ObjectiveSettings, RunSettings, WatchSettings):
    """How to finetune. The defaults suit small models on one device.

    For its base of 1.4 billion parameters the paper (Vid2World, arXiv 2505.14357, table 3) used lr 1e-5,
    constant and without warmup, 16 clips of 16 frames a step, and 100,000 steps.
    """

    batch: Count = Field(default=8, description="clips per optimizer step")
    gradient_accumulation: Count = Field(
        default=1,
        description="equal parts in which a batch is computed: less memory, the same gradient",
    )
    frames: int = Field(
        default=16,
        ge=2,
        le=MAX_COUNT,
        description="latent frames per clip. Where the autoencoder has a temporal compression of k, a clip "
        "covers about k times as many video frames",
    )
    lr: float = Field(
        default=3e-4,
        gt=0,
        le=MAX_SCALE,
        description="peak learning rate; 1e-5 suits a base of a billion parameters",
    )
    weight_decay: Scale = Field(default=0.01, description="weight decay, apart from the gradient")
    max_gradient_norm: float = Field(
        default=1.0, gt=0, le=MAX_SCALE, description="gradients are clipped to this norm"
    )
    action_dropout: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description='share of actions, frame by frame, that are replaced by the learned "no action"',
    )
    text_condition: Literal["task", "stored"] = Field(
        default="task",
        description="prompt of an episode: its task's text, where the data and the base have one; or what the model "
        "has stored",
    )
    image_condition: Literal["first_frame", "stored"] = Field(
        default="first_frame",
        description="picture of a clip, where the base takes one: its first frame, or what the model has stored",
    )
    text_dropout: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of clips whose prompt is replaced by what the model has stored",
    )
    image_embeds_dropout: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of clips whose picture's embedding is replaced by what the model has stored",
    )
    image_latents_dropout: float = Field(
        default=0.0, ge=0, le=1, description="share of clips whose picture's latents are replaced by zeros"
    )
    clip_stride: Count = Field(
        default=1,
        description="latent frames from one clip's beginning to the next one's. What is made of a clip's first frame "
        "is kept on disk for every clip: a larger number makes fewer",
    )
    ema_decay: float = Field(
        default=0.999, ge=0, le=1, description="final decay of the averaged weights, which are saved"
    )
    expert: Literal["both", "high", "low"] = Field(
        default="both",
        description="which denoiser to train, where the model has two, each for a range of noise levels; the other "
        "stays as it is",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute activations twice: less memory, the same gradient"
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        default="auto",
        description="number format of the forward pass: auto is bf16 on CUDA cards that compute in it, and with weights "
        "bfloat16, else no",
    )
    seed: Seed = Field(default=0, description="seed of all random numbers")
    device: Name = Field(default="auto", description="where to train: auto, cpu, cuda, cuda:1, mps")
    validation: SettingPath | None = Field(
        default=None, description="a second data set, on which the loss is measured but not trained"
    )
    validate_every: Count = Field(default=250, description="steps between validations")
    validation_clips: Count = Field(
        default=64, description="clips of the validation data to use, spread evenly over it"
    )

    @property
    def dropout(self) -> dict[Literal["text", "image_embeds", "image_latents"], float]:
        """Share of clips whose conditions of a kind are dropped."""
        return {
            "text": self.text_dropout,
            "image_embeds": self.image_embeds_dropout,
            "image_latents": self.image_latents_dropout,
        }

    @model_validator(mode="after")
    def _clips_grow(self) -> Self:
        if self.first_frames is not None and self.first_frames > self.frames:
            raise ValueError(f"`first_frames` {self.first_frames} is more than `frames` {self.frames}")
        return self

    @model_validator(mode="after")
    def _experts_agree(self) -> Self:
        if self.consistency and self.expert != "both":
            raise ValueError(
                "`consistency` needs `expert` both: its denoising steps go through the levels of both"
            )
        return self

    @model_validator(mode="after")
    def _batch_splits_evenly(self) -> Self:
        if self.batch % self.gradient_accumulation:
            # Names in backticks become flags on the command line.
            raise ValueError(
                f"`batch` {self.batch} is not a multiple of `gradient_accumulation` {self.gradient_accumulation}"
            )
        return self
