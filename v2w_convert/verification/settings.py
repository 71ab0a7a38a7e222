"""Settings of `v2w verify`."""

from typing import Self

from pydantic import Field, model_validator

from v2w_convert.data.settings import DataSettings
from v2w_convert.settings import Scale, SettingPath


class VerifySettings(DataSettings):
    """What verification may use, what it measures on and how that is read. It computes on the CPU, mostly in float64."""

    clips: SettingPath | None = Field(
        default=None,
        description="A data set: the distance from the base is measured on clips of it, not on generated "
        "ones. Needs the base.",
    )
    memory: Scale | None = Field(
        default=None,
        description="GB of memory that may be used; default: what the machine has free. Weights that do not fit are "
        "read from disk at every use.",
    )
    budget: Scale | None = Field(
        default=None,
        description="Minutes that it may take; default: no limit. What does not fit is reported as not measured; if it is "
        "of the core, the exit code is 3.",
    )

    @model_validator(mode="after")
    def _clips_are_read(self) -> Self:
        if self.clips is None and (said := self.said()):
            # Names in backticks become flags on the command line.
            raise ValueError(f"{', '.join(f'`{name}`' for name in said)} without `clips`")
        return self
