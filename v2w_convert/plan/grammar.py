"""The grammar of a plan: what a YAML file may say. Data only; nothing in it is executed."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

from v2w_convert.families import COMPUTED_ARGUMENTS
from v2w_convert.noise import NoiseSpec
from v2w_convert.operations import OPERATIONS, Operation
from v2w_convert.plan.pattern import check_pattern


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LatentsArgument(Strict):
    """The noisy frames.

    argument  of the base's forward
    layout    of that argument and of the output, as einops writes it: `b c t h w`, `b (t h w) c`
    channels  of one frame's latent: a number, or worked out from the base's config (`v2w_convert.expression`)
    clip_length       the only clip length that the base takes, if it takes just one
    frames_per_token  latent frames that the base packs into one token, which count as one position
    """

    argument: str
    layout: str = Field(pattern=r"^b( \(?[tchw]\)?){4}$")
    channels: int | str
    clip_length: int | str | None = None
    frames_per_token: int | str = 1


class NoiseLevel(Strict):
    argument: str


class Condition(Strict):
    """Something else that the base is told, once for each clip: a prompt, an image's latent, a frame rate.

    argument  of the base's forward; None: put after the latents' channels
    shape     of one clip's, without batch; `h` and `w` are the latents' own, other letters are numbers of tokens,
              which the user chooses. Numbers as in `Latents.channels`
    layout    where the base wants a picture for every frame, as einops writes it
    repeat_per_frame  whether the base wants it for every frame, as if each were a clip
    fill      the null, given where the user gives nothing: this number everywhere, or this row. A number may be worked
              out from the base's config
    dtype     `float` is the model's
    when      an entry of the base's config without which it takes no such condition
    """

    argument: str | None = None
    shape: tuple[int | str, ...]
    layout: str | None = Field(default=None, pattern=r"^b( \(?[tchw]\)?){4}$")
    repeat_per_frame: bool = False
    fill: float | str | list[float] = 0.0
    dtype: Literal["float", "int64", "bool"] = "float"
    when: str | None = None

    @property
    def is_spatial(self) -> bool:
        """Whether it is as large as a frame."""
        return "h" in self.shape

    @property
    def is_per_frame(self) -> bool:
        """Whether the base is given one for every frame, be it the same."""
        return self.layout is not None or self.argument is None

    @model_validator(mode="after")
    def _frames_are_pictures(self) -> "Condition":
        if self.is_per_frame and self.shape[1:] != ("h", "w"):
            raise ValueError("what is given for every frame is of shape [channels, h, w]")
        return self


class Call(Strict):
    """How the base's forward is called.

    token_counts  letters of the conditions' shapes, each with the number of tokens that the nulls have
    constants  given as they are
    size_arguments  arguments that are told one of the latents' sizes: t, h or w
    computed_arguments  the name of a function in `v2w_convert.families` that works out more of them
    """

    latents: LatentsArgument
    noise_level: NoiseLevel
    conditions: dict[str, Condition] = {}
    token_counts: dict[str, int] = {}
    constants: dict[str, list[float] | int | float | bool] = {}
    size_arguments: dict[str, Literal["t", "h", "w"]] = {}
    computed_arguments: str | None = None

    @field_validator("computed_arguments")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in COMPUTED_ARGUMENTS:
            raise ValueError(f"there is no family {name!r}; there are {', '.join(COMPUTED_ARGUMENTS)}")
        return name

    def active_conditions(self, config: Mapping[str, Any]) -> dict[str, Condition]:
        """The conditions that a base with this config takes."""
        return {name: c for name, c in self.conditions.items() if c.when is None or config.get(c.when)}


class Plan(Strict):
    """What to do at each kind of layer of one family of models, and how that family is called.

    v2w               the version of this grammar
    base              the class, in diffusers or in `v2w_convert.families`; a checkpoint under this plan may name no other
    requires          entries of the base's config, each with the values that this plan can serve
    repairs           the plan that this one repairs: `v2w convert --repair` takes this one in its place
    tiny              a small configuration of that class, for the probe
    frames_per_block  frames that are denoised at once and see each other; a number, or worked out from the config
    operations        a list; each entry is one operation's name with its fields
    """

    v2w: Literal[2]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    base: str = Field(pattern=r"^[A-Z]\w*$")
    repairs: str | None = None
    requires: dict[str, list[Any]] = {}
    tiny: dict[str, Any]
    noise: NoiseSpec
    call: Call
    frames_per_block: int | str = 1
    operations: tuple[Operation, ...] = Field(min_length=1, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _name_operations(cls, data: Any) -> Any:
        """Turn `- causal_conv: {…}` into the operation of that name."""
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
    def _operations_by_name(self, default: Any) -> dict[str, Any]:
        data = default(self)
        data["operations"] = [{op.name: op.model_dump()} for op in self.operations]
        return data
