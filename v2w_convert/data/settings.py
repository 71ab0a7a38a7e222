"""Settings that say how a data set is read. Nothing heavy is imported here: the command line reads its flags from them."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from v2w_convert.settings import MAX_SCALE, Count, Name, Settings, Size


class DataSettings(Settings):
    """How a data set is read. None stands for: not said.

    What was decided when a model was finetuned is recorded with it, and holds wherever nothing else is said.
    """

    camera: Name | None = Field(
        default=None,
        description="camera of the data set, where it has several; several, separated by commas, are tiled into one "
        "picture in that order",
    )
    action_key: Name | None = Field(
        default=None, description="column or array that holds the actions, where there are several"
    )
    action_kind: Literal["continuous", "discrete", "multi_binary"] | None = Field(
        default=None, description="what the numbers of an action are; default: as the data declares it"
    )
    choices: Annotated[Name, Field(pattern=r"^[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*$")] | None = Field(
        default=None,
        description="how many choices each discrete number of an action has, separated by commas; default: as the data "
        "declares it, else 0 to the largest that occurs",
    )
    state: bool | None = Field(
        default=None, description="add the recorded state (proprioception) to the action vector"
    )
    key_map: Name | None = Field(
        default=None,
        description="where frames and actions lie in a file of arrays: a preset's name, or frames=PATH,actions=PATH",
    )
    height: Size | None = Field(default=None, description="height of the frames; default: as recorded")
    width: Size | None = Field(default=None, description="width of the frames; default: as recorded")
    fit: Literal["crop", "pad", "stretch"] | None = Field(
        default=None,
        description="how recorded frames come to that shape: crop what stands over, pad with black, or stretch; "
        "default: crop",
    )
    stride: Count | None = Field(
        default=None,
        description="use every stride-th frame; its action is then all actions until the next one that is used, stride times as many "
        "numbers; default: 1",
    )
    fps: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCALE,
        description="frames per second to use, in place of a stride: the data's rate divided by a whole number",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        # Names in backticks become flags on the command line.
        if (self.height is None) != (self.width is None):
            raise ValueError("`height` and `width` go together")
        if self.stride is not None and self.fps is not None:
            raise ValueError("both `stride` and `fps`: give one of them")
        return self

    @property
    def choice_counts(self) -> list[int] | None:
        """`choices` as numbers."""
        return None if self.choices is None else [int(count) for count in self.choices.split(",")]

    def said(self) -> dict[str, Any]:
        """The settings of this class, of whatever subclass this is, that are not None."""
        values = {name: getattr(self, name) for name in DataSettings.model_fields}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, recorded: "DataSettings", taken: Collection[str]) -> "DataSettings":
        """These settings, and where they say nothing those of `recorded` that are in `taken`."""
        said = {name: value for name, value in recorded.said().items() if name in taken}
        own = self.said()
        if {"stride", "fps"} & own.keys():
            said = {name: value for name, value in said.items() if name not in ("stride", "fps")}
        return DataSettings(**(said | own))


VIEW = frozenset({"height", "width", "fit", "stride", "fps", "choices"})
"""Settings that hold for any format: `data.view` applies them to what the format reads; `choices` is checked."""
