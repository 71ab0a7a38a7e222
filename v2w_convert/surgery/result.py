"""What `inspect` and `convert` return. Importing this module is cheap: neither torch nor diffusers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from v2w_convert.surgery.settings import ConvertSettings, InspectSettings


@dataclass(frozen=True)
class InspectResult:
    """What a base is, and what the plan that fits it would do.

    Attributes:
        base: The folder or file that was read.
        plan: Name of the plan.
        class_name: Class of the denoiser.
        parameters: Number of parameters; of both denoisers, where there are two.
        dtype: Most frequent dtype of the stored tensors, such as "float16".
        latent_channels: Channels of one latent frame.
        window: Latent frames that a frame can see, itself included; None if all before it.
        frames_per_block: Latent frames that are denoised together.
        conditions: Names of the conditions that the base takes.
        noise: Kind of the noise: "ddpm", "edm" or "flow".
        prediction_type: What the base predicts, such as "v" or "epsilon".
        sites: Path of each module that an operation changes, and the operation's name.
        uncovered: Mixing sites for which the plan has no operation. Empty unless the plan is incomplete.
        boundary: Where there are two denoisers, each for a range of noise levels: the share of the training timesteps at
            which the ranges meet. The modules and the plan are the same for both. Else None.
        notes: Remarks about how the files were read.
        settings: The settings that were used.
    """

    base: Path
    plan: str
    class_name: str
    parameters: int
    dtype: str
    latent_channels: int
    window: int | None
    frames_per_block: int
    conditions: list[str]
    noise: str
    prediction_type: str
    sites: dict[str, str]
    uncovered: list[str]
    boundary: float | None
    notes: list[str]
    settings: InspectSettings

    @property
    def ok(self) -> bool:
        """Whether the plan has an operation for every mixing site."""
        return not self.uncovered


@dataclass(frozen=True)
class PlannedFile:
    """A file of a converted folder, as a dry run lists it.

    Attributes:
        path: Path within the folder.
        bytes: Size.
        copied: Bytes of it that are copied unchanged from the base.
    """

    path: str
    bytes: int
    copied: int


@dataclass(frozen=True)
class TensorCounts:
    """How many tensors came of the surgery.

    Attributes:
        kept: Copied unchanged.
        transferred: Changed.
        added: New.
    """

    kept: int
    transferred: int
    added: int


@dataclass(frozen=True)
class ConvertResult:
    """What `convert` did, or would do.

    Attributes:
        base: The folder or file that was converted.
        output: The converted folder.
        plan: Name of the plan.
        tensors: How many tensors were kept, transferred and added.
        already_converted: The folder held the result of this very conversion, so nothing was written.
        dry_run: Nothing was written because a dry run was asked for.
        changes: Dry run: each tensor that would not be kept, and what would become of it. Where there are two
            denoisers, names begin with "high." or "low.".
        files: Dry run: the files that would be written.
        bytes_needed: Dry run: disk space that the output needs, in bytes.
        bytes_free: Dry run: disk space that is free there, in bytes.
        linked: Files that are hard links to the base's.
        notes: Remarks about how the files were read and written.
        verify: The report of the verification that followed, as `docs/schemas/verify.schema.json` describes
            it; None if none was asked for.
        settings: The settings that were used.
    """

    base: Path
    output: Path
    plan: str
    tensors: TensorCounts
    already_converted: bool = False
    dry_run: bool = False
    changes: dict[str, Literal["transferred", "added"]] = field(default_factory=dict)
    files: list[PlannedFile] = field(default_factory=list)
    bytes_needed: int | None = None
    bytes_free: int | None = None
    linked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verify: dict[str, Any] | None = None
    settings: ConvertSettings | None = None

    @property
    def ok(self) -> bool:
        """Whether every claim holds, where the result was verified; else True."""
        return self.verify is None or bool(self.verify["ok"])
