"""Settings that say where a run keeps what it encodes, from where it goes on, and how long it is."""

from typing import Literal, Self

from pydantic import Field, model_validator

from v2w_convert.settings import MAX_COUNT, Count, SettingPath, Settings


class RunSettings(Settings):
    """How many steps a run has, with which learning rates, and what of it is kept where."""

    steps: int = Field(
        default=1000,
        ge=1,
        le=1000 * MAX_COUNT,
        description="optimizer steps. Schedules that fall end with them, so that another number is another run; with a "
        "constant learning rate a run is continued to more steps",
    )
    lr_scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        default="cosine", description="learning rate schedule, by its name in diffusers"
    )
    warmup: float = Field(
        default=0.05,
        ge=0,
        le=MAX_COUNT,
        description="steps in which the learning rate rises from 0: below 1 a share of all steps, from 1 on a whole number",
    )
    cache: SettingPath | None = Field(
        default=None,
        description="folder for what is encoded of data, which runs may share; default: latents/ in the run folder",
    )
    checkpoint_every: Count = Field(default=250, description="steps between checkpoints")
    keep_checkpoints: Count = Field(default=2, description="newest checkpoints to keep")
    resume_from: SettingPath | None = Field(
        default=None,
        description="begin with a checkpoint of another run of this model, RUN/checkpoints/step-N: its weights, optimizer "
        "and log; with other settings and data, where they fit",
    )

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises from 0."""
        if self.lr_scheduler == "constant":
            return 0
        return round(self.warmup * self.steps) if self.warmup < 1 else int(self.warmup)

    @model_validator(mode="after")
    def _warms_up(self) -> Self:
        # Names in backticks become flags on the command line.
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError(f"`warmup` {self.warmup} is neither a share below 1 nor a whole number of steps")
        if self.lr_scheduler == "constant" and self.warmup not in (
            0,
            RunSettings.model_fields["warmup"].default,
        ):
            raise ValueError("`warmup` goes with `lr_scheduler` constant_with_warmup, not constant")
        return self


NOT_COMPARED = frozenset({"cache", "checkpoint_every", "keep_checkpoints"})
"""Settings that may differ when a run is resumed: they change nothing of what is trained."""
