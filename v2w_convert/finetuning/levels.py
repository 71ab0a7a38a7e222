"""Which noise levels training visits, and how much the error at each counts."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.finetuning.objective_settings import ObjectiveSettings
from v2w_convert.noise import Noise
from v2w_convert.world.experts import LevelRange

Levels = Literal["own", "uniform", "logit_normal", "shifted"]
Weight = Literal["none", "min_snr", "bell"]
Target = Literal["own", "epsilon", "sample", "v", "flow"]

POOL = 4096  # levels from which those in a range are taken, and over which the weight is 1 on average
IN_RANGE = 0.5  # share of the blocks whose level is drawn in the range of the one expert that is trained
GROWTH_STEPS = 1000  # until clips are whole
CONSISTENCY_STEPS = 3  # of denoising, which one pass is taught
GAMMA = 5.0  # of min-SNR, as Hang et al. (arXiv 2303.09556) use it
BELL_END = math.exp(-0.5)  # of exp(-2 (x - 1/2)²) at 0 and 1, which is taken away

DEFAULTS: dict[str, dict[str, Any]] = {
    "ddpm": {"levels": "own", "loss_weight": "none", "clean_history": 0.0},
    "edm": {"levels": "own", "loss_weight": "none", "clean_history": 0.0},
    "flow": {"levels": "shifted", "loss_weight": "none", "clean_history": 0.0},
}
"""What is chosen for a kind of noise where the settings do not say; `shifted` is `own` where no shift is known."""


@dataclass(frozen=True)
class Objective:
    """What is minimised, decided; the manifest's `finetuning` has it.

    Attributes:
        levels: How levels are drawn: `own` as the kind of noise does, or the share of noise `uniform`, `logit_normal`
            or `shifted`.
        level_mean: Mean of the share of noise in logits; logit_normal only.
        level_std: Its standard deviation; logit_normal only.
        level_shift: s of s u / (1 + (s - 1) u), of a uniform share u; shifted only.
        loss_weight: How errors count by level.
        min_snr_gamma: The bound of the signal-to-noise ratio; min_snr only.
        loss_target: Whose error is minimised; `own`: the base's prediction's.
        clean_history: Share of clips with a clean history.
        history_noise: Largest level of a history's frames, in the unit of the noise; None: all have `history_level`.
        self_history: Share of clips in whose history the model's own predictions are.
        consistency: Share of clips distilled from several denoising steps of the weights that the run began with.
        consistency_steps: So many.
        action_dropout: Share of frames whose action is dropped.
        random_offsets: Whether clips begin at random positions.
    """

    levels: Levels
    level_mean: float | None
    level_std: float | None
    level_shift: float | None
    loss_weight: Weight
    min_snr_gamma: float | None
    loss_target: Target
    clean_history: float
    history_noise: float | None
    self_history: float
    consistency: float
    consistency_steps: int
    action_dropout: float
    random_offsets: bool


def decide(settings: ObjectiveSettings, noise: Noise, action_dropout: float) -> Objective:
    """The objective that the settings say for a kind of noise.

    Args:
        settings: The settings.
        noise: The model's noise.
        action_dropout: Share of frames whose action is dropped.

    Raises:
        V2WError: A setting belongs to another choice, has no meaning for this noise, or makes weights without bound.
    """
    kind = noise.spec.kind
    usual = DEFAULTS.get(kind, DEFAULTS["ddpm"])
    shift = noise.training_shift if settings.level_shift is None else settings.level_shift
    levels: Levels = settings.levels or usual["levels"]
    if settings.levels is None and levels == "shifted" and shift is None:
        levels = "own"
    weight: Weight = settings.loss_weight or usual["loss_weight"]
    faults = [
        f"--{name.replace('_', '-')} needs {needs}"
        for name, needs, met in (
            ("level_mean", "--levels logit_normal", levels == "logit_normal"),
            ("level_std", "--levels logit_normal", levels == "logit_normal"),
            ("level_shift", "--levels shifted", levels == "shifted"),
            ("min_snr_gamma", "--loss-weight min_snr", weight == "min_snr"),
        )
        if getattr(settings, name) is not None and not met
    ]
    if weight == "min_snr" and settings.loss_target != "own":
        faults.append("--loss-weight min_snr says itself whose error counts: no --loss-target")
    if levels == "shifted" and shift is None:
        faults.append("the model's scheduler names no shift: --level-shift")
    share = usual["clean_history"] if settings.clean_history is None else settings.clean_history
    if settings.history_noise is not None:
        if settings.history_noise > noise.max_level:
            faults.append(
                f"--history-noise {settings.history_noise:g} is beyond {noise.max_level:g}, the largest level"
            )
        if not (share or settings.self_history):
            faults.append("--history-noise needs --clean-history or --self-history")
    found = Objective(
        levels=levels,
        level_mean=(settings.level_mean or 0.0) if levels == "logit_normal" else None,
        level_std=(settings.level_std or 1.0) if levels == "logit_normal" else None,
        level_shift=shift if levels == "shifted" else None,
        loss_weight=weight,
        min_snr_gamma=(settings.min_snr_gamma or GAMMA) if weight == "min_snr" else None,
        loss_target=settings.loss_target,
        clean_history=share,
        history_noise=settings.history_noise,
        self_history=settings.self_history,
        consistency=settings.consistency,
        consistency_steps=settings.consistency_steps or CONSISTENCY_STEPS,
        action_dropout=action_dropout,
        random_offsets=settings.random_offsets,
    )
    ends = torch.tensor([[0.0, noise.history_level, noise.max_level]])
    if not faults and not bool(raw_weight(noise, ends, found).isfinite().all()):
        faults.append(
            f"the error of {settings.loss_target} has no bound where the base predicts {noise.spec.prediction}"
        )
    if faults:
        raise V2WError(f"finetune a model of {kind} noise so", faults)
    return found


def clip_length(settings: ObjectiveSettings, frames: int, step: int, frames_per_block: int) -> int:
    """Latent frames per clip in a step, in whole blocks: from `first_frames` to `frames`, evenly over `growth_steps`.

    Args:
        settings: The settings.
        frames: Of a whole clip.
        step: The step's number, from 0.
        frames_per_block: Latent frames in a block.
    """
    if settings.first_frames is None:
        return frames
    share = min(step / (settings.growth_steps or GROWTH_STEPS), 1.0)
    now = settings.first_frames + int(share * (frames - settings.first_frames))
    return now - now % frames_per_block


def plain(noise: Noise) -> Objective:
    """Diffusion forcing as it is defined: the noise's own levels, all errors alike. What validation measures."""
    return decide(
        ObjectiveSettings(levels="own", loss_weight="none", clean_history=0.0), noise, action_dropout=0.0
    )


def sample_levels(
    noise: Noise, objective: Objective, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Random levels of any shape, float32 on the CPU, in the unit of the noise."""
    match objective.levels:
        case "own":
            return noise.sample_training_levels(shape, generator)
        case "uniform":
            share = torch.rand(shape, generator=generator)
        case "logit_normal":  # Esser et al., arXiv 2403.03206, section 3.1
            assert objective.level_mean is not None and objective.level_std is not None
            normal = torch.randn(shape, generator=generator)
            share = torch.sigmoid(objective.level_mean + objective.level_std * normal)
        case "shifted":  # the same, section 5.3.2
            assert objective.level_shift is not None
            s, uniform = objective.level_shift, torch.rand(shape, generator=generator)
            share = s * uniform / (1 + (s - 1) * uniform)
    return noise.level_at(share)


def sample_in_range(
    noise: Noise, objective: Objective, levels: LevelRange, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Random levels as `sample_levels`, given that they are in one expert's range.

    Raises:
        V2WError: Training visits none of them.
    """
    pool = sample_levels(noise, objective, (1, POOL), generator)
    pool = pool[levels.contains(noise, pool)]
    if not len(pool):
        found = f"none of {POOL} levels that training visits is in its range, with the boundary {levels.boundary:g}"
        raise V2WError(f"train the {'high' if levels.high else 'low'}-noise expert", found, "expert both")
    return pool[torch.randint(len(pool), shape, generator=generator)]


def loss_weight(noise: Noise, level: Tensor, objective: Objective, levels: LevelRange | None) -> Tensor:
    """How the squared error of the base's prediction counts at each level: (b t) -> (b t), 1 on average in training.

    Args:
        noise: The noise.
        level: Levels.
        objective: The objective.
        levels: The range of the one expert that is trained: errors elsewhere do not count.
    """
    pool = sample_levels(noise, objective, (1, POOL), torch.Generator().manual_seed(0))
    usual = raw_weight(noise, pool, objective)
    if levels is None:
        return raw_weight(noise, level, objective) / usual.mean()
    inside = levels.contains(noise, pool).float()
    average = (
        IN_RANGE * (inside * usual).sum() / inside.sum().clamp(min=1)
        + (1 - IN_RANGE) * (inside * usual).mean()
    )
    return levels.contains(noise, level).float() * raw_weight(noise, level, objective) / average


def raw_weight(noise: Noise, level: Tensor, objective: Objective) -> Tensor:
    """`loss_weight` before it is made 1 on average.

    The clean frame and the noise that an output stands for are linear in it. By how much each changes with the output
    says what an error of the output is as an error of either.
    """
    one = torch.ones(*level.shape, 1, 1, 1, dtype=torch.float64)
    clean, added = (
        part[..., 0, 0, 0].nan_to_num(nan=torch.inf)  # where there is no noise, or nothing else
        for part in noise.to_clean_and_noise(one, torch.zeros_like(one), level.double())
    )
    alpha, sigma = noise.alpha_sigma(level.double())
    match objective.loss_target:
        case "own":
            weight = torch.ones_like(clean)
        case "epsilon":
            weight = added**2
        case "sample":
            weight = (clean / noise.data) ** 2
        case "v":
            weight = (alpha * added - sigma * clean) ** 2 / (alpha**2 + sigma**2)
        case "flow":
            weight = (added - clean) ** 2
    match objective.loss_weight:
        case "min_snr":
            # min(SNR, gamma) times the clean frame's squared error; the noise's is SNR times as large.
            assert objective.min_snr_gamma is not None
            weight = weight * torch.minimum(objective.min_snr_gamma * (clean / noise.data) ** 2, added**2)
        case "bell":  # DiffSynth-Studio's weight in training (diffsynth/diffusion/flow_match.py)
            weight = weight * ((-2 * (noise.share_of(level.double()) - 0.5) ** 2).exp() - BELL_END).clamp(
                min=0
            )
    return weight.float()
