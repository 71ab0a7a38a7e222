"""The grammar of a plan: what a YAML file may say. Data only; nothing in it is executed."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from v2w_convert.expression import ConfigFloat, ConfigInt
from v2w_convert.families import COMPUTED_ARGUMENTS, IMAGE_CONDITIONS
from v2w_convert.noise import NoiseSpec
from v2w_convert.operations import OPERATIONS, Operation
from v2w_convert.plan.pattern import check_pattern


class Strict(BaseModel):
    """What all parts of a plan share: fields that it does not know are refused, and nothing in it changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LatentsArgument(Strict):
    """The noisy frames."""

    argument: str = Field(description="Of the base's forward.")
    layout: str = Field(
        pattern=r"^b( \(?[tchw]\)?){4}$",
        description="Of that argument and of the output, as einops writes it: `b c t h w`, `b (t h w) c`.",
    )
    channels: ConfigInt = Field(
        description="Channels of one frame's latent: a number, or an expression over the base's config."
    )
    clip_length: ConfigInt | None = Field(
        default=None, description="The only number of frames that the base takes, if it takes just one."
    )
    frames_per_token: ConfigInt = Field(
        default=1,
        description="Latent frames that the base packs into one token, which count as one position.",
    )


class NoiseLevel(Strict):
    """The timestep."""

    argument: str = Field(description="Of the base's forward.")


class Condition(Strict):
    """Another input of the base, one for each clip: a prompt, an image's latents, a frame rate."""

    argument: str | None = Field(
        default=None, description="Of the base's forward; none: concatenated to the latents' channels."
    )
    shape: tuple[int | str, ...] = Field(
        description="Of one clip's, without batch. `h` and `w` are the latents' own; the letters of `token_counts` are "
        "numbers of tokens, which the user chooses; anything else is a number or an expression over the base's config."
    )
    layout: str | None = Field(
        default=None,
        pattern=r"^b( \(?[tchw]\)?){4}$",
        description="Where the base wants a picture for every frame, as einops writes it.",
    )
    later_frames: Literal["same", "zeros", "own"] = Field(
        default="same",
        description="What the frames after the first receive where a picture is given once for a clip: the `same` "
        "picture, or `zeros`. `own`: each frame has its own, so it cannot be given once.",
    )
    repeat_per_frame: bool = Field(
        default=False, description="Whether the base wants it for every frame, as if each were a clip."
    )
    fill: ConfigFloat | list[float] = Field(
        default=0.0,
        description="The null condition, for users who give none: this number everywhere, or this row. A number may be "
        "an expression over the base's config.",
    )
    dtype: Literal["float", "int64", "bool"] = Field(
        default="float", description="Its dtype; `float` is the model's."
    )
    when: str | None = Field(
        default=None,
        description="An entry of the base's config without which the base takes no such condition.",
    )

    @model_validator(mode="after")
    def _frames_are_pictures(self) -> "Condition":
        per_frame = self.layout is not None or self.argument is None
        if per_frame and self.shape[1:] != ("h", "w"):
            raise ValueError("what is given for every frame is of shape [channels, h, w]")
        if not per_frame and self.later_frames != "same":
            raise ValueError(
                "later_frames is of what is given for every frame: with a layout, or concatenated"
            )
        return self


class Call(Strict):
    """How the base's forward is called."""

    latents: LatentsArgument = Field(description="The noisy frames.")
    noise_level: NoiseLevel = Field(description="The timestep.")
    conditions: dict[str, Condition] = Field(default={}, description="Its other inputs, by name.")
    token_counts: dict[str, int] = Field(
        default={},
        description="Letters of the conditions' shapes, each with the number of tokens that the null condition has.",
    )
    constants: dict[str, list[float] | int | float | bool] = Field(
        default={}, description="Arguments that are passed as they are."
    )
    size_arguments: dict[str, Literal["t", "h", "w"]] = Field(
        default={}, description="Arguments that receive one of the latents' sizes."
    )
    computed_arguments: str | None = Field(
        default=None,
        description="The name of a function in `v2w_convert.families` that computes more arguments.",
    )

    image_conditions: str | None = Field(
        default=None,
        description="The name of a function in `v2w_convert.families` that makes conditions of a clip's first picture, "
        "as the family's pipeline does.",
    )

    @field_validator("computed_arguments")
    @classmethod
    def _computes(cls, name: str | None) -> str | None:
        return _known(name, COMPUTED_ARGUMENTS)

    @field_validator("image_conditions")
    @classmethod
    def _makes_conditions(cls, name: str | None) -> str | None:
        return _known(name, IMAGE_CONDITIONS)

    def active_conditions(self, config: Mapping[str, Any]) -> dict[str, Condition]:
        """The conditions that a base with this config takes."""
        return {name: c for name, c in self.conditions.items() if c.when is None or config.get(c.when)}


def _known(name: str | None, functions: Mapping[str, Any]) -> str | None:
    if name is not None and name not in functions:
        raise ValueError(f"there is no family {name!r}; there are {', '.join(functions)}")
    return name


class Plan(Strict):
    """What to do at each kind of layer of one family of models, and how that family is called."""

    v2w: Literal[2] = Field(description="The version of this grammar.")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="The plan's name.")
    base: str = Field(
        pattern=r"^[A-Z]\w*$",
        description="The class, in diffusers or in `v2w_convert.families`; a checkpoint under this plan may name no "
        "other.",
    )
    repairs: str | None = Field(
        default=None,
        description="The plan that this one repairs: `v2w convert --repair` uses this one instead.",
    )
    requires: dict[str, list[Any]] = Field(
        default={}, description="Entries of the base's config, each with the values that this plan can serve."
    )
    reasons: dict[str, str] = Field(
        default={}, description="Entries of `requires`, each with the reason why other values are refused."
    )
    tiny: dict[str, Any] = Field(
        description="A small configuration of that class, for the probe and the tests."
    )
    noise: NoiseSpec = Field(description="What noise the base was trained with, and what it predicts.")
    call: Call = Field(description="How the base's forward is called.")
    frames_per_block: ConfigInt = Field(
        default=1,
        description="Latent frames that are denoised at once and see each other; a number, or an expression over the "
        "base's config.",
    )
    operations: tuple[Operation, ...] = Field(
        min_length=1,
        max_length=64,
        description="A list; each entry is one operation's name with its fields.",
    )

    @model_validator(mode="after")
    def _reasons_are_of_requirements(self) -> "Plan":
        if unknown := self.reasons.keys() - self.requires.keys():
            raise ValueError(f"reasons: {', '.join(sorted(unknown))}: no entry of requires")
        return self

    @model_validator(mode="before")
    @classmethod
    def _name_operations(cls, data: Any) -> Any:
        """Make the operation of that name of each entry `causal_conv: {…}`."""
        if not isinstance(data, dict) or not isinstance(data.get("operations"), list):
            return data
        kinds = {kind.name: kind for kind in OPERATIONS}
        parsed = []
        for entry in data["operations"]:
            if isinstance(entry, Operation):
                parsed.append(entry)
                continue
            if not (
                isinstance(entry, dict) and len(entry) == 1 and isinstance(next(iter(entry.values())), dict)
            ):
                raise ValueError(f"operations: {entry!r:.80} is not one operation's name with its fields")
            name, fields = next(iter(entry.items()))
            if name not in kinds:
                raise ValueError(f"operations: there is no operation {name!r}; there are {', '.join(kinds)}")
            parsed.append(kinds[name].model_validate(fields))
        return {**data, "operations": parsed}

    @field_validator("operations")
    @classmethod
    def _patterns(cls, operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
        for operation in operations:
            try:
                check_pattern(operation.at)
            except ValueError as error:
                raise ValueError(f"{operation.name} at {operation.at!r:.80}: {error}") from None
        return operations

    @model_serializer(mode="wrap")
    def _operations_by_name(self, default: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = default(self)
        data["operations"] = [{op.name: op.model_dump()} for op in self.operations]
        return data
