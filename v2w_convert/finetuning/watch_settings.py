"""Settings that decide how a run is watched. They change nothing of what is trained, and may differ when it is resumed."""

from typing import Literal

from pydantic import Field

from v2w_convert.settings import Count, Name, Settings

Tracker = Literal["tensorboard", "trackio", "wandb"]


class WatchSettings(Settings):
    """Where the log goes besides log.jsonl, which rollouts are shown while training, and where the model goes."""

    report_to: tuple[Tracker, ...] = Field(
        default=(),
        max_length=3,
        description="experiment trackers that get the log, too (each a package of its name); log.jsonl is always written",
    )
    project: Name = Field(default="v2w", description="the project's name in trackio and wandb")
    rollout_every: Count | None = Field(
        default=None,
        description="steps between rollouts, written as videos beside the truth; without it there are none",
    )
    rollout_frames: Count = Field(default=32, description="video frames that such a rollout generates")
    rollout_episodes: int = Field(
        default=2,
        ge=1,
        le=16,
        description="episodes that they are of: the first ones of the validation data, if any, else of the data",
    )
    push_to_hub: Name | None = Field(
        default=None,
        description="repository on the Hugging Face Hub (OWNER/NAME) to upload the finished model to; made private, if it "
        "is not there",
    )


NOT_COMPARED = frozenset(WatchSettings.model_fields)
"""Settings that may differ when a run is resumed."""
