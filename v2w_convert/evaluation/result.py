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
        lpips: LPIPS, 0 for equal frames; None where no file was given.
        dreamsim: DreamSim, 0 for equal frames; None where no file was given.
    """

    psnr: Interval
    ssim: Interval
    lpips: Interval | None
    dreamsim: Interval | None


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
class FrechetFigures:
    """Fréchet distances of a network's features from those of the recorded frames, up to the longest horizon.

    They fall with the number of samples: only distances of equally many compare. Where there are fewer samples than
    dimensions, they say little.

    Attributes:
        samples: How many features they are of: frames, or clips for FVD.
        dimensions: Numbers of a feature.
        generated: Of generated frames.
        last_frame_copied: Of the last observed frame, repeated.
        autoencoder_alone: Of the true frames, encoded and decoded.
        other_actions: Of rollouts with the actions of another episode.
    """

    samples: int
    dimensions: int
    generated: float
    last_frame_copied: float
    autoencoder_alone: float
    other_actions: float


@dataclass(frozen=True)
class InverseDynamicsFigures:
    """How well a small network reads one part of the action from two frames.

    Attributes:
        name: The part: a choice, a key or an amount.
        measure: "accuracy" of choices, "balanced accuracy" of keys (the mean of the shares of pressed and of released ones
            that are recognised), "r2" of amounts (1 minus the squared error over the variance).
        real: On recorded frames.
        round_tripped: On recorded frames, encoded and decoded; the network is trained on such frames.
        generated: On generated frames: near `round_tripped` where actions are followed.
        ignoring_actions: Of the one best answer to all: where `generated` lies at most if actions have no effect.
    """

    name: str
    measure: str
    real: Interval
    round_tripped: Interval
    generated: Interval
    ignoring_actions: float


@dataclass(frozen=True)
class SensitivityFigures:
    """How far the first generated frames change with the action: root mean square over pixels, in grey levels of 255.

    Attributes:
        clips: How many clips it was measured on.
        other_noise: With the same actions and other noise: how far samples differ anyway.
        other_episode: With another episode's actions and the same noise.
        parts: By part of the action, with this part changed alone and the same noise: the next choice, the key's other
            state, an amount moved by one standard deviation. 0: it has no effect.
    """

    clips: int
    other_noise: Interval
    other_episode: Interval
    parts: dict[str, Interval]


@dataclass(frozen=True)
class ActionFigures:
    """Whether generated frames follow the actions.

    Attributes:
        psnr_gap: By horizon: PSNR with the true actions minus PSNR with another episode's, in dB.
        sensitivity: How far frames change with each part of the action.
        inverse_dynamics: How well each part that changes in the data is read from frames.
        inverse_dynamics_reason: Why parts are not there; None if all are.
    """

    psnr_gap: dict[int, Interval]
    sensitivity: SensitivityFigures
    inverse_dynamics: list[InverseDynamicsFigures]
    inverse_dynamics_reason: str | None


@dataclass(frozen=True)
class ShareWithin(Interval):
    """A share of frames whose picture statistics lie within the range of other frames.

    Attributes:
        reference: The same share of the frames that the range was taken from.
    """

    reference: float


@dataclass(frozen=True)
class DriftFigures:
    """A stretch of the long rollouts.

    Attributes:
        first: Its first generated video frame, counted from 1.
        last: Its last.
        within_round_tripped: Share of its frames within the range of recorded frames that were encoded and decoded.
        detail: Its gradient energy, as a multiple of that of recorded frames that were encoded and decoded.
        inverse_dynamics: How well each part of the action is read from its frames, by name, as in `actions`; empty if it
            was not measured.
    """

    first: int
    last: int
    within_round_tripped: Interval
    detail: Interval
    inverse_dynamics: dict[str, float]


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
        drift: The same figures along the rollout, stretch by stretch.
    """

    frames: int
    rollouts: int
    percentiles: tuple[int, int]
    within_real: ShareWithin
    within_round_tripped: ShareWithin
    drift: list[DriftFigures]


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
        psnr_curves: PSNR in dB of each frame after the history, mean over episodes: of generated frames and of each
            baseline.
        frechet: Fréchet distances: "fid", "fvd", and "frechet[FILE]" of any other network, where files were given.
        not_measured: Metrics that were not measured, and why.
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
    psnr_curves: dict[str, list[float]]
    frechet: dict[str, FrechetFigures]
    not_measured: dict[str, str]
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
