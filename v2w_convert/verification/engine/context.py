"""What claims are measured on: the files and the models. One model at a time is in memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.source import Source
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.load import Converted
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.surgery.model_files import stored_dtype
from v2w_convert.verification.claim import Stage
from v2w_convert.verification.engine.budget import Budget
from v2w_convert.verification.engine.clips import ReferenceClips
from v2w_convert.verification.engine.inputs import Inputs
from v2w_convert.verification.engine.recorded_calls import RecordedCall
from v2w_convert.world.experts import ExpertsWorld
from v2w_convert.world.model import World

Scope = Literal["all", "expert", "whole"]


@dataclass
class BaseOutputs:
    """What the base returned for clips, float64.

    Attributes:
        inputs: At each noise level, arguments of `World.forward` (b t …); no actions.
        levels: Ascending, in the noise kind's unit.
        outputs: At each level, (b t c h w).
        sites: At the level in the middle: site name -> its call, and its output in the base.
        description: What the clips are, for the report.
    """

    inputs: list[Inputs]
    levels: list[float]
    outputs: list[Tensor]
    sites: dict[str, tuple[RecordedCall, Tensor]]
    description: str


@dataclass
class BaseRecord:
    """What is kept of the base after it has been freed, for claims that compare: small tensors.

    Attributes:
        influence: (t t), of its real weights.
        leak: Module name -> how much of a later frame comes through it; zero-initialised layers randomised.
        outputs: What it returned for clips, for the distance.
        randomized: True if any of its layers was zero-initialised, and has been randomised.
    """

    influence: Tensor | None = None
    leak: dict[str, float] | None = None
    outputs: BaseOutputs | None = None
    randomized: bool = False


@dataclass
class VerifyContext:
    """Everything that a check may measure.

    Attributes:
        converted: The converted folder.
        source: Its files.
        origin: The base's files; None if the base was not given.
        resolved: The plan.
        manifest: The converted folder's record.
        budget: Checked while a model runs.
        weight_memory: Bytes of weights that may be in memory; the others stay on disk.
        world_memory: The same while only the world model's outputs are looked at.
        clips: Clips of the user's data, for the distance; None: generated ones.
        large: True for a model so large that measurements are kept brief; they say so.
        draw_influence: True if the influence of every frame on every frame is measured, for the report's pictures.
        base_record: What is kept of the base after it has been freed.
        figures: What the report's pictures show.
        scope: What is measured: "all" of a model with one denoiser; of a model with two, one "expert" at a time, then
            the "whole".
        complete: Whether the files hold the tensors that they should: else no model can be run.
        loaded_world: The converted model, in the state of the current phase.
        loaded_base: The base, likewise.
        loaded_experts: Both denoisers, in the phase that needs them.
    """

    converted: Path
    source: Source
    origin: Source | None
    resolved: ResolvedPlan
    manifest: Manifest
    budget: Budget
    weight_memory: float = float("inf")
    world_memory: float = float("inf")
    clips: ReferenceClips | None = None
    large: bool = False
    draw_influence: bool = False
    scope: Scope = "all"
    complete: bool = True
    base_record: BaseRecord = field(default_factory=BaseRecord)
    figures: dict[str, Any] = field(default_factory=dict)
    loaded_world: World | None = None
    loaded_base: nn.Module | None = None
    loaded_experts: ExpertsWorld | None = None

    @property
    def model(self) -> Converted:
        """The converted model, as `surgery.load` takes it."""
        return Converted(self.manifest, self.source, self.resolved)

    @property
    def world(self) -> World:
        """The converted model. While the base is measured, its weights are on disk."""
        assert self.loaded_world is not None, "this phase opens no world model"
        return self.loaded_world

    @property
    def experts(self) -> ExpertsWorld:
        """Both denoisers of the converted model."""
        assert self.loaded_experts is not None, "this phase opens no two experts"
        return self.loaded_experts

    @property
    def base(self) -> nn.Module:
        """The base. While the world model is measured, its weights are on disk."""
        assert self.loaded_base is not None, "this phase opens no base, or none was given"
        return self.loaded_base

    @property
    def stored_dtype(self) -> torch.dtype:
        """The dtype in which the weights are stored."""
        return stored_dtype(self.source)

    @property
    def stage(self) -> Stage:
        """How far the weights have come."""
        if self.manifest.finetuning is not None:
            return "finetuned"
        return "converted" if self.manifest.stage == "converted" else "trained_actions"
