"""What the settings models of all commands have in common: no unknown names, no NaN, numbers with bounds."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_COUNT = 1_000_000  # of frames, steps, clips, …: more is a slip of the finger
MAX_SEED = 2**63 - 1  # generators of torch take it, with what is added to it
MAX_SIZE = 8192  # height or width of latents
MAX_SCALE = 1e6  # of a factor, a rate, a number of minutes or gigabytes
SLIPS = (MAX_COUNT, MAX_SEED, MAX_SIZE, MAX_SCALE)  # bounds that help does not show: nobody is near them
MAX_NAME = 1000  # characters
MAX_PROMPT = 100_000  # characters


class Settings(BaseModel):
    """The settings of a command: frozen, and without values that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _path(value: object) -> object:
    if value == "":
        raise ValueError("an empty path")
    return value


def _text(value: Any) -> Any:
    if "\0" in str(value):
        raise ValueError("a character of code 0")
    return value


SettingPath = Annotated[Path, BeforeValidator(_path), AfterValidator(_text)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_text)]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_text)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Scale = Annotated[float, Field(ge=0, le=MAX_SCALE)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
