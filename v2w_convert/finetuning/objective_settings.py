"""What finetuning minimises: the settings of noise levels, of the loss, and of the history in a clip."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from v2w_convert.settings import MAX_COUNT, MAX_SCALE, Count, Scale, Settings

# Vid2World (arXiv 2505.14357), table 3 and its released configs: what of a recipe does not depend on the machine.
VID2WORLD: dict[str, Any] = {
    "steps": 100_000,
    "batch": 16,
    "frames": 16,
    "lr": 1e-5,
    "lr_scheduler": "constant_with_warmup",
    "warmup": 0.0,
    "weight_decay": 0.01,
    "max_gradient_norm": 0.5,
    "ema": "off",
    "action_dropout": 0.2,
    "levels": "uniform",
    "loss_weight": "none",
    "clean_history": 0.0,
}
PRESETS = {"vid2world": VID2WORLD}


class ObjectiveSettings(Settings):
    """Noise levels, loss, and history. None: what suits the model's kind of noise (`levels.DEFAULTS`)."""

    preset: Literal["vid2world"] | None = Field(
        default=None,
        description="settings of a published recipe, where no other value is given: vid2world is table 3 of arXiv 2505.14357",
    )
    levels: Literal["own", "uniform", "logit_normal", "shifted"] | None = Field(
        default=None,
        description="how the noise level of each frame is drawn; own is that of the kind of noise; without it, shifted as "
        "in rollouts where the model's scheduler shifts, else own",
    )
    level_mean: float | None = Field(
        default=None,
        ge=-MAX_SCALE,
        le=MAX_SCALE,
        description="mean of the share of noise in logits, for levels logit_normal; without it 0",
    )
    level_std: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCALE,
        description="its standard deviation, for levels logit_normal; without it 1",
    )
    level_shift: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCALE,
        description="how far levels shifted lean to noise, 1 not at all; without it as the model's scheduler does",
    )
    loss_weight: Literal["none", "min_snr", "bell"] | None = Field(
        default=None,
        description="how errors count by noise level: alike, by the smaller of signal-to-noise ratio and a bound, or most "
        "at medium levels; without it alike",
    )
    min_snr_gamma: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCALE,
        description="bound of the ratio, for loss weight min_snr; without it 5",
    )
    loss_target: Literal["own", "epsilon", "sample", "v", "flow"] = Field(
        default="own",
        description="whose error is minimised: what the base predicts, or the noise, the clean frame, v or flow that follow "
        "from it; what the model outputs stays the same",
    )
    clean_history: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of clips whose first frames are given as in a rollout, clean or nearly so, and only the others "
        "are learned",
    )
    history_noise: Scale | None = Field(
        default=None,
        description="largest noise level of such frames, each of its own; without it all have the level that rollouts give "
        "history by default",
    )
    self_history: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of clips of whose first frames some are the model's own predictions, in one step and without "
        "gradient, so that it learns to go on from its own errors",
    )
    consistency: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of clips whose target is what the model predicts in several denoising steps, with the weights that the "
        "run began with (distillation), for rollouts of one or two steps; to continue a finished run",
    )
    consistency_steps: int | None = Field(
        default=None,
        ge=2,
        le=MAX_COUNT,
        description="so many denoising steps, with consistency; without it 3",
    )
    first_frames: int | None = Field(
        default=None,
        ge=2,
        le=MAX_COUNT,
        description="latent frames per clip in the first step; they grow to all evenly",
    )
    growth_steps: Count | None = Field(
        default=None, description="steps until clips are whole, with first frames; without it 1000"
    )
    random_offsets: bool = Field(
        default=True,
        description="begin each clip at a random position, where positions have a period, so that all are trained",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        """A preset's values where none are given."""
        preset = data.get("preset") if isinstance(data, dict) else None
        return {**PRESETS.get(preset, {}), **data} if isinstance(preset, str) else data

    @model_validator(mode="after")
    def _histories_fit(self) -> Self:
        if (self.clean_history or 0.0) + self.self_history > 1:
            raise ValueError("`clean_history` and `self_history` are more than 1 together")
        if self.growth_steps is not None and self.first_frames is None:
            raise ValueError("`growth_steps` needs `first_frames`")
        if self.consistency_steps is not None and not self.consistency:
            raise ValueError("`consistency_steps` needs `consistency`")
        return self
