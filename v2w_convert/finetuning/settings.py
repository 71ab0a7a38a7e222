"""What a finetuning run is told, and what it tells of itself on the way."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """How to finetune. The defaults suit small models on one device.

    For its base of 1.4 billion parameters the paper (Vid2World, arXiv 2505.14357, table 3) used lr 1e-5,
    constant and without warm-up, 16 clips of 16 frames a step, and 100,000 steps.

    steps                   optimizer steps; the lr schedule ends with them, so more of them is another run
    batch                   clips to an optimizer step
    gradient_accumulation   parts that a step's batch is computed in: less memory, the same gradient
    frames                  t, latent frames to a clip: what a step costs. Where k video frames make one, a clip from an
                            episode's beginning shows k (t - 1) + 1 of them, or k t
    lr, lr_scheduler        AdamW's peak learning rate, and a schedule of diffusers' `get_scheduler`
    warmup                  share of the steps in which the learning rate rises from 0
    clip                    largest norm of the gradient
    action_dropout          share of actions that are replaced by the learned "no action", frame by frame
    ema_decay               of the averaged weights, which are what is exported; rises to this value
    gradient_checkpointing  compute activations twice: less memory, the same gradient
    mixed_precision         of the forward pass; weights and sums stay float32
    camera                  which video feature; needed only where there are several
    validation              a second data set; the loss on it is logged every `validate_every` steps
    validation_clips        clips of it that are looked at, evenly spread
    checkpoint_every, keep  steps between checkpoints, and how many of them stay
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=8, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    frames: int = Field(default=16, ge=2)
    lr: float = Field(default=3e-4, gt=0, allow_inf_nan=False)
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, gt=0)
    action_dropout: float = Field(default=0.2, ge=0, le=1)
    ema_decay: float = Field(default=0.999, ge=0, le=1)
    gradient_checkpointing: bool = False
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    seed: int = 0
    camera: str | None = None
    validation: Path | None = None
    validate_every: int = Field(default=250, ge=1)
    validation_clips: int = Field(default=64, ge=1)
    checkpoint_every: int = Field(default=250, ge=1)
    keep: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _parts_are_equal(self) -> "Settings":
        if self.batch % self.gradient_accumulation:
            raise ValueError(
                f"a batch of {self.batch} cannot be split into {self.gradient_accumulation} equal parts"
            )
        return self


class Progress(NamedTuple):
    """One step further.

    task          `encode`, counted in episodes, or `train`, in optimizer steps
    done, total   `done` counts what an earlier start of the same run did, too
    loss          of this step; None while encoding
    seconds_left  of this task, at its mean pace since this start
    """

    task: Literal["encode", "train"]
    done: int
    total: int
    loss: float | None
    seconds_left: float


ProgressCallback = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    pass


class Pace:
    """Seconds left, from the mean pace since it was made with `done` steps behind."""

    def __init__(self, done: int, total: int):
        self.began, self.first, self.total = time.monotonic(), done, total

    def seconds_left(self, done: int) -> float:
        return (time.monotonic() - self.began) / (done - self.first) * (self.total - done)
