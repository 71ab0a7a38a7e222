"""Settings of `play`. Nothing heavy is imported here: the command line reads its flags from them."""

from pydantic import Field

from v2w_convert.evaluation.settings import SamplingSettings
from v2w_convert.settings import MAX_COUNT, MAX_SCALE, Name, Prompt


class PlaySettings(SamplingSettings):
    """Who may come, from where, and how frames are generated at first."""

    host: Name = Field(
        default="127.0.0.1",
        description="address to listen on; 0.0.0.0 lets others on the network in, without a password",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0: any that is free")
    allow_host: tuple[Name, ...] = Field(
        default=(),
        description="name under which browsers may reach the page, besides localhost and addresses; may be repeated",
    )
    visitors: int = Field(default=8, ge=1, le=256, description="how many may be there at once")
    idle: float = Field(
        default=10, gt=0, le=MAX_SCALE, description="minutes without a key or click after which a visit ends"
    )
    starts: int = Field(default=12, ge=1, le=100, description="recorded episodes to choose a start from")
    rewind: int = Field(
        default=200,
        ge=0,
        le=MAX_COUNT,
        description="steps that a visitor can go back at most, if memory allows",
    )
    rate: float | None = Field(
        default=None, gt=0, le=1000, description="frames a second at first; default: the data's"
    )
    prompt: Prompt | None = Field(
        default=None, description="prompt, by the base's own encoders; default: as the model was finetuned"
    )
