"""Settings of `v2w data`. Nothing heavy is imported here: the command line reads its flags from them."""

from typing import Literal

from pydantic import Field

from v2w_convert.data.settings import DataSettings


class DescribeSettings(DataSettings):
    """How to read a data set, and how much of it to show."""

    decode: Literal["some", "all"] = Field(
        default="some",
        description="frames to decode, to look for faults: of the episodes on the contact sheet, or of all",
    )
    episodes: int = Field(
        default=6, ge=1, le=100, description="episodes on the contact sheet: the first, this many"
    )
    columns: int = Field(
        default=8, ge=1, le=64, description="frames of each: pairs of one and the next, evenly spaced"
    )
