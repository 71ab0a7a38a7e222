"""What a finetuning run returns, and what the manifest of its model says of it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from v2w_convert.finetuning.levels import Objective
from v2w_convert.surgery.action_statistics import ActionStatistics


@dataclass(frozen=True)
class ValidationLoss:
    """The loss on the validation clips, with the averaged weights.

    Attributes:
        first: Before the first step.
        last: After the last step.
    """

    first: float
    last: float


@dataclass(frozen=True)
class Input:
    """One of a run's inputs.

    Attributes:
        name: The last part of its path.
        sha256: Its content: of a converted folder its manifest's hash, of a data set its fingerprint.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class AutoencoderFacts:
    """What was measured of an autoencoder whose latent frames hold several video frames.

    Attributes:
        name: Its class in diffusers.
        temporal_compression: Video frames per latent frame.
        sees_later_frames: Whether a latent frame depends on video frames after its own, so that the latents
            of the history hold traces of what comes next.
    """

    name: str
    temporal_compression: int
    sees_later_frames: bool


@dataclass(frozen=True)
class FinetuneResult:
    """A finished finetuning run.

    Attributes:
        output: The run folder, which is a world model.
        finished_before: The run was finished already; nothing was done.
        settings: The settings that make it the same run: all but `validation` and `device`.
        converted: The converted model that was trained.
        data: The data that it was trained on.
        validation: The data that the loss was validated on, if any.
        autoencoder: Facts about the autoencoder; None where each latent frame is one video frame's.
        steps: Optimizer steps.
        loss: Mean training loss of the last 100 steps.
        validation_loss: Loss on the validation data, if any.
        before: The same record of the run that trained `converted`, where it was finetuned before.
        conditions: Conditions that were an episode's own, and what they were made of: "task" or "first frame".
        notes: Why others were not, and what was noticed of the data.
        actions: Statistics of the data's actions; None in records of versions that did not keep them.
        data_view: How the data was read, with the size of the frames and the rate that were used.
        objective: What was minimised, with what the settings left to the model's kind of noise; None as for `actions`.
    """

    output: str
    finished_before: bool
    settings: dict[str, Any]
    converted: Input
    data: Input
    validation: Input | None
    autoencoder: AutoencoderFacts | None
    steps: int
    loss: float
    validation_loss: ValidationLoss | None
    before: dict[str, Any] | None
    conditions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    actions: ActionStatistics | None = None
    data_view: dict[str, Any] = field(default_factory=dict)
    objective: Objective | None = None

    def for_manifest(self) -> dict[str, Any]:
        """What the model's manifest says under `finetuning`: all but where and when it was made."""
        return {k: v for k, v in asdict(self).items() if k not in ("output", "finished_before")}
