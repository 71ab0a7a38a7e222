"""The grammar of a plan: what a YAML file may say. Data only; nothing in it is executed."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from v2w_convert.noise import NoiseSpec
from v2w_convert.operations import OPERATIONS, Operation


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Latents(Strict):
    """The noisy frames.

    argument     of the base's forward
    layout       of that argument and of the output, as einops writes it
    channels     of one frame's latent: a number, or a name in the base's config
    concatenate  a condition given along the channels: `anchor`, the first frame's latent
    """

    argument: str
    layout: str = Field(pattern=r"^b( [tchw]){4}$")
    channels: int | str
    concatenate: Literal["anchor"] | None = None


class NoiseLevel(Strict):
    argument: str


class Text(Strict):
    """The prompt's embedding (b n d): n tokens of a width that is a number or a name in the base's config."""

    argument: str
    tokens: int = Field(ge=1)
    width: int | str


class Call(Strict):
    """How the base's forward is called. `constants` are given to every clip, one row each."""

    latents: Latents
    noise_level: NoiseLevel
    text: Text | None = None
    constants: dict[str, list[float]] = {}


class Plan(Strict):
    """What to do at each kind of layer of one family of models, and how that family is called.

    v2w         the version of this grammar
    base        the class in diffusers; the only class that a checkpoint under this plan may name
    tiny        a small configuration of that class, for the probe
    operations  a list; each entry is one operation's name with its fields
    """

    v2w: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    base: str = Field(pattern=r"^[A-Z]\w*$")
    tiny: dict[str, Any]
    noise: NoiseSpec
    call: Call
    operations: tuple[Operation, ...] = Field(min_length=1)

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

    @model_serializer(mode="wrap")
    def _operations_by_name(self, default: Any) -> dict[str, Any]:
        data = default(self)
        data["operations"] = [{op.name: op.model_dump()} for op in self.operations]
        return data
