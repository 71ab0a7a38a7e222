"""What goes over the socket: wishes of a visitor as JSON; what is said as JSON, and pictures as bytes, in return.

A visitor's bytes are a picture to begin from: height · width · 3 numbers, RGB by rows, of the size of the world's pictures.
"""

import struct
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from v2w_convert.settings import MAX_SEED, Prompt

MAX_MESSAGE = 16_384  # bytes of a visitor's message
MAX_VALUES = 4096  # numbers of an action
MAX_NUMBER = 2**31 - 1
HEADER = struct.Struct("<IIIfI")
"""Before each picture: its number, since the visit began; its place in what can be gone back; the number of the last
action that it shows; milliseconds that it took; visitors whose pictures were made with it."""


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Act(_Wish):
    """From now on, do this. `values`: as recorded; `number`: counts the visitor's actions."""

    type: Literal["act"]
    values: list[float | int] = Field(max_length=MAX_VALUES)
    number: int = Field(ge=0, le=MAX_NUMBER)


class Run(_Wish):
    """Let time pass, or stop it."""

    type: Literal["run"]
    running: bool


class Step(_Wish):
    """Let one step pass."""

    type: Literal["step"]


class Begin(_Wish):
    """Begin from one of the starts, with the noise of a seed.

    `own`: with the picture sent last in place of its frames; `prompt`: told this in place of what the start is told.
    """

    type: Literal["begin"]
    start: int = Field(ge=0, le=MAX_NUMBER)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    own: bool = False
    prompt: Prompt | None = None


class Back(_Wish):
    """Go back so many steps, or as many as are kept."""

    type: Literal["back"]
    steps: int = Field(ge=1, le=MAX_NUMBER)


class Sample(_Wish):
    """How frames are made: denoising steps, action guidance, frames a second at most."""

    type: Literal["sample"]
    steps: int = Field(ge=1, le=MAX_NUMBER)
    guidance: float | int
    rate: float | int = Field(gt=0, le=1000)


class Seen(_Wish):
    """The picture of this number has arrived."""

    type: Literal["seen"]
    number: int = Field(ge=0, le=MAX_NUMBER)


Wish = Act | Run | Step | Begin | Back | Sample | Seen
_WISH: TypeAdapter[Wish] = TypeAdapter(Annotated[Wish, Field(discriminator="type")])


def read_wish(text: str) -> Wish:
    """A visitor's message.

    Raises:
        ValueError: It is none; says what is wrong with it, without quoting it.
    """
    if len(text) > MAX_MESSAGE:
        raise ValueError(f"a message of more than {MAX_MESSAGE} characters")
    try:
        return _WISH.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(map(str, found["loc"]))[:100]
        raise ValueError(f"{place}: {found['type']}" if place else found["type"]) from None
