"""Settings of `v2w verify`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class VerifySettings(BaseModel):
    """What verification may use, and what it measures on. It always computes on the CPU, mostly in float64."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips: Path | None = Field(
        default=None,
        description="A LeRobot v3 data set: the distance from the base is measured on clips of it, not on generated "
        "ones. Needs the base.",
    )
    camera: str | None = Field(default=None, description="The camera of --clips, where it has several.")
    memory: float | None = Field(
        default=None,
        ge=0,
        description="GB of memory that may be used; default: what the machine has free. Weights that do not fit are "
        "read from disk at every use.",
    )
    budget: float | None = Field(
        default=None,
        ge=0,
        description="Minutes that it may take; default: no limit. What does not fit is reported as not measured; if it is of the core, the "
        "exit code is 3.",
    )
