"""Settings of `v2w verify`."""

from pydantic import Field

from v2w_convert.settings import Name, Scale, SettingPath, Settings


class VerifySettings(Settings):
    """What verification may use, and what it measures on. It always computes on the CPU, mostly in float64."""

    clips: SettingPath | None = Field(
        default=None,
        description="A LeRobot v3 data set: the distance from the base is measured on clips of it, not on generated "
        "ones. Needs the base.",
    )
    camera: Name | None = Field(default=None, description="The camera of --clips, where it has several.")
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
