"""Settings of `record`. Nothing heavy is imported here: the command line reads its flags from them."""

from typing import Self

from pydantic import Field, model_validator

from v2w_convert.settings import Count, Name, Seed, Settings, Size


class RecordSettings(Settings):
    """Who acts, how long, and what is seen."""

    policy: Name = Field(
        default="random",
        description="random, or MODULE:FUNCTION: called with the environment and a seed before each episode, it returns what "
        "is called with each observation and returns an action. It is imported and run",
    )
    hold: Count = Field(default=1, description="policy random: each action is kept for 1 to so many steps")
    episodes: Count = Field(default=10, description="episodes to record")
    length: Count = Field(
        default=200,
        ge=2,
        description="frames of an episode at most; it ends earlier where the environment ends",
    )
    view: Name = Field(
        default="render",
        description="what the frames are: render, the environment's picture; observation; or an observation's key",
    )
    env_arg: tuple[Name, ...] = Field(
        default=(), description="NAME=VALUE for the environment, such as obs_type=pixels; may be repeated"
    )
    height: Size | None = Field(default=None, description="height of the frames; default: as they are seen")
    width: Size | None = Field(default=None, description="width of the frames; default: as they are seen")
    fps: int | None = Field(
        default=None, ge=1, le=1000, description="frames a second; default: the environment's render_fps"
    )
    task: Name | None = Field(default=None, description="what is being done, in words")
    seed: Seed = Field(default=0, description="other seeds give other episodes")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.height is None) != (self.width is None):
            raise ValueError("`height` and `width` go together")
        if self.hold > 1 and self.policy != "random":
            raise ValueError("`hold` is of the policy random")
        return self
