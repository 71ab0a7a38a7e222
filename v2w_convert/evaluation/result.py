"""What `evaluate` and `rollout` return: plain data, whose names are the keys of the JSON."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A mean over episodes and its 95 % bootstrap interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class FrameQuality:
    """How near frames are to the true ones.

    Attributes:
        psnr: Peak signal-to-noise ratio in dB.
        ssim: Structural similarity, at most 1.
    """

    psnr: Interval
    ssim: Interval


@dataclass(frozen=True)
class HorizonFigures(FrameQuality):
    """How near generated frames are to the true ones, at one horizon.

    Attributes:
        psnr_of_mean: PSNR of the mean of several rollouts.
        ssim_of_mean: SSIM of the mean of several rollouts.
    """

    psnr_of_mean: Interval
    ssim_of_mean: Interval


@dataclass(frozen=True)
class Baselines:
    """The same figures, by horizon, of frames that are not the model's prediction for the true actions.

    Attributes:
        last_frame_copied: The last observed frame, repeated.
        autoencoder_alone: The true frames, encoded and decoded: what the autoencoder allows at best.
        other_actions: Rollouts with the actions of another episode.
    """

    last_frame_copied: dict[int, FrameQuality]
    autoencoder_alone: dict[int, FrameQuality]
    other_actions: dict[int, FrameQuality]


@dataclass(frozen=True)
class InverseDynamicsFigures:
    """Accuracy of a classifier that names the action between two frames.

    Attributes:
        real: On recorded frames.
        round_tripped: On recorded frames, encoded and decoded; the classifier is trained on such frames.
        generated: On generated frames: near `round_tripped` where actions are followed.
        majority_class: Of naming the most frequent action always: where `generated` lies if actions have no
            effect.
    """

    real: Interval
    round_tripped: Interval
    generated: Interval
    majority_class: float


@dataclass(frozen=True)
class ActionFigures:
    """Whether generated frames follow the actions.

    Attributes:
        psnr_gap: By horizon: PSNR with the true actions minus PSNR with another episode's, in dB.
        inverse_dynamics: Accuracy of the action classifier; None if it was not measured.
        inverse_dynamics_reason: Why it was not measured; None if it was.
    """

    psnr_gap: dict[int, Interval]
    inverse_dynamics: InverseDynamicsFigures | None
    inverse_dynamics_reason: str | None


@dataclass(frozen=True)
class ShareWithin(Interval):
    """A share of frames whose picture statistics lie within the range of other frames.

    Attributes:
        reference: The same share of the frames that the range was taken from.
    """

    reference: float


@dataclass(frozen=True)
class LongHorizonFigures:
    """Long-horizon stability: whether late frames of long rollouts still look like the data.

    A frame does if its mean, standard deviation and gradient energy all lie within the range of reference
    frames.

    Attributes:
        frames: Generated video frames per rollout.
        rollouts: Number of rollouts.
        percentiles: The range: from which to which percentile of the reference frames.
        within_real: Share of generated frames within the range of recorded frames.
        within_round_tripped: Share within the range of recorded frames that were encoded and decoded.
    """

    frames: int
    rollouts: int
    percentiles: tuple[int, int]
    within_real: ShareWithin
    within_round_tripped: ShareWithin


@dataclass(frozen=True)
class EvaluateResult:
    """All figures of a world model on one data set.

    Attributes:
        world: Name of the model's folder.
        data: Name of the data set.
        clips: Number of clips.
        episodes: Number of episodes that they come from.
        history: Observed video frames per clip.
        settings: All settings.
        horizons: Figures by horizon, in video frames ahead.
        baselines: The same figures of other frames.
        actions: Whether actions are followed.
        long_horizon: Long-horizon stability; None if it was not measured.
    """

    world: str
    data: str
    clips: int
    episodes: int
    history: int
    settings: dict[str, Any]
    horizons: dict[int, HorizonFigures]
    baselines: Baselines
    actions: ActionFigures
    long_horizon: LongHorizonFigures | None


@dataclass(frozen=True)
class RolloutResult:
    """A rollout that was written to a file.

    Attributes:
        output: The file.
        world: Name of the model's folder.
        data: Name of the data set.
        episode: The episode that it starts from.
        history: Observed video frames.
        frames: Generated video frames.
        panels: Titles of what is shown side by side.
        settings: All settings.
    """

    output: str
    world: str
    data: str
    episode: int
    history: int
    frames: int
    panels: list[str]
    settings: dict[str, Any]
