"""Noise levels and weights against the formulas that the papers give, for every kind of noise."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from v2w_convert.errors import V2WError
from v2w_convert.finetuning.levels import clip_length, decide, loss_weight, plain, raw_weight, sample_levels
from v2w_convert.finetuning.objective_settings import ObjectiveSettings
from v2w_convert.noise import Noise, NoiseSpec

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5.0}
NOISES: dict[str, Noise] = {
    "ddpm": NoiseSpec(kind="ddpm", prediction="v").build(),
    "epsilon": NoiseSpec(kind="ddpm", prediction="epsilon").build(),
    "sample": NoiseSpec(kind="ddpm", prediction="sample").build(),
    "edm": NoiseSpec(kind="edm", prediction="v").build(),
    "flow": NoiseSpec(kind="flow", prediction="flow", scheduler=FLOW).build(),
}
COUNT = 20_000


def shares(noise: Noise, **settings: Any) -> torch.Tensor:
    """Shares of noise of many levels that are drawn so."""
    objective = decide(ObjectiveSettings(**settings), noise, 0.2)
    level = sample_levels(noise, objective, (COUNT,), torch.Generator().manual_seed(0))
    assert level.dtype == torch.float32 and (level >= 0).all() and (level <= noise.max_level).all()
    return noise.share_of(level)


def distance(found: torch.Tensor, cumulative: torch.Tensor) -> float:
    """Largest distance of the empirical distribution from that whose cumulative shares the sorted values have."""
    return float((torch.arange(1, len(found) + 1) / len(found) - cumulative).abs().max())


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_shifted_levels(name: str, shift: float) -> None:
    found = shares(NOISES[name], levels="shifted", level_shift=shift).sort().values
    # Kolmogorov and Smirnov's distance of COUNT numbers is over 2 / sqrt(COUNT) once in 1,500 times.
    assert distance(found, found / (shift - (shift - 1) * found)) < 2 / COUNT**0.5 + 1e-3


@pytest.mark.parametrize("name", NOISES)
def test_logit_normal_levels(name: str) -> None:
    found = shares(NOISES[name], levels="logit_normal", level_mean=0.5, level_std=0.8).sort().values
    cumulative = torch.special.ndtr((torch.logit(found.double().clamp(1e-9, 1 - 1e-9)) - 0.5) / 0.8)
    assert distance(found, cumulative) < 2 / COUNT**0.5 + 5e-3  # steps of ddpm's whole levels


def test_by_default_levels_are_shifted_as_in_rollouts_or_the_noises_own() -> None:
    assert decide(ObjectiveSettings(), NOISES["flow"], 0.2).level_shift == 5.0
    for name in ("ddpm", "edm"):
        assert decide(ObjectiveSettings(), NOISES[name], 0.2).levels == "own"
    dynamic = {**FLOW, "use_dynamic_shifting": True}
    unknown = NoiseSpec(kind="flow", prediction="flow", scheduler=dynamic)
    assert decide(ObjectiveSettings(), unknown.build(), 0.2).levels == "own"
    known = decide(ObjectiveSettings(), unknown.model_copy(update={"mu": 1.0}).build(), 0.2)
    assert known.level_shift == pytest.approx(2.718281828)
    with pytest.raises(V2WError, match="names no shift: --level-shift"):
        decide(ObjectiveSettings(levels="shifted"), NOISES["ddpm"], 0.2)


def test_the_share_of_flow_is_that_of_its_scheduler() -> None:
    """Rollouts' levels are evenly spaced shares, shifted: so many lie above a level as training draws there."""
    noise = NOISES["flow"]
    found = shares(noise)
    grid = noise.inference_levels(1000)[:-1]
    for level in (0.3, 0.6, 0.9):
        assert float((found > level).float().mean()) == pytest.approx(
            float((grid > level).float().mean()), abs=0.02
        )


@pytest.mark.parametrize("name", NOISES)
def test_min_snr_is_what_the_paper_says(name: str) -> None:
    """Hang et al., section 3.4: min(SNR, γ) for clean frames, / SNR for noise, / (SNR + 1) for v."""
    noise = NOISES[name]
    level = noise.level_at(torch.linspace(0.02, 0.97, 40, dtype=torch.float64))[None]
    alpha, sigma = noise.alpha_sigma(level)
    snr = (alpha / sigma) ** 2
    bounded = snr.clamp(max=5)
    expected = {
        "epsilon": bounded / snr,
        "sample": bounded,
        "v": bounded / (snr + 1),
        "flow": bounded * sigma**2,
    }[noise.spec.prediction]
    objective = decide(ObjectiveSettings(loss_weight="min_snr"), noise, 0.2)
    torch.testing.assert_close(raw_weight(noise, level, objective), expected.float())


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("target", ["epsilon", "sample", "v", "flow"])
def test_the_error_of_a_target_is_that_of_what_follows_from_the_output(name: str, target: Any) -> None:
    noise = NOISES[name]
    chance = torch.Generator().manual_seed(0)
    shape = (1, 40, 2, 2, 2)
    clean, added, output = (torch.randn(shape, generator=chance, dtype=torch.float64) for _ in range(3))
    level = noise.level_at(torch.linspace(0.05, 0.95, 40, dtype=torch.float64))[None]
    noisy = noise.add_noise(clean, added, level)
    error = (output - noise.target(clean, added, level)) ** 2

    alpha, sigma = (x[..., None, None, None] for x in noise.alpha_sigma(level))
    found_clean, found_added = noise.to_clean_and_noise(output, noisy, level)
    d_clean, d_added = found_clean - clean, found_added - added
    expected = {
        "epsilon": d_added**2,
        "sample": d_clean**2,
        "v": (alpha * d_added - sigma * d_clean) ** 2 / (alpha**2 + sigma**2),
        "flow": (d_added - d_clean) ** 2,
    }[target]
    objective = replace(plain(noise), loss_target=target)
    weight = raw_weight(noise, level, objective)[..., None, None, None]
    torch.testing.assert_close(weight * error, expected, rtol=1e-4, atol=1e-8)
    if target == noise.spec.prediction:
        torch.testing.assert_close(weight, torch.ones_like(weight))


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow"])
def test_weights_are_1_on_average(name: str) -> None:
    noise = NOISES[name]
    for settings in (ObjectiveSettings(loss_weight="min_snr"), ObjectiveSettings(loss_weight="bell")):
        objective = decide(settings, noise, 0.2)
        level = sample_levels(noise, objective, (1, COUNT), torch.Generator().manual_seed(1))
        weight = loss_weight(noise, level, objective, None)
        assert float(weight.mean()) == pytest.approx(1, abs=0.03) and (weight >= 0).all()
        assert weight.max() > 1.2


def test_a_bell_is_highest_in_the_middle() -> None:
    objective = decide(ObjectiveSettings(loss_weight="bell"), NOISES["flow"], 0.2)
    weight = raw_weight(NOISES["flow"], torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]]), objective)[0]
    torch.testing.assert_close(weight[[0, 4]], torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(weight[1], weight[3])
    assert weight[2] > weight[1] > 0


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"level_shift": 3.0}, "--level-shift needs --levels shifted"),
        (
            {"levels": "shifted", "level_shift": 3.0, "level_std": 1.0},
            "--level-std needs --levels logit_normal",
        ),
        ({"min_snr_gamma": 3.0}, "--min-snr-gamma needs --loss-weight min_snr"),
        ({"history_noise": 3.0}, "--history-noise needs --clean-history or --self-history"),
        ({"clean_history": 0.5, "history_noise": 1000.0}, "--history-noise 1000 is beyond 999"),
        ({"loss_weight": "min_snr", "loss_target": "sample"}, "no --loss-target"),
    ],
)
def test_what_has_no_effect_is_refused_by_name(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(V2WError, match=found):
        decide(ObjectiveSettings(**settings), NOISES["ddpm"], 0.2)


def test_weights_without_bound_are_refused() -> None:
    with pytest.raises(V2WError, match="the error of epsilon has no bound where the base predicts sample"):
        decide(ObjectiveSettings(loss_target="epsilon"), NOISES["sample"], 0.2)


def test_clips_grow() -> None:
    settings = ObjectiveSettings(first_frames=4, growth_steps=10)
    lengths = [clip_length(settings, 16, step, 2) for step in range(12)]
    assert lengths[0] == 4 and lengths[10] == lengths[11] == 16 and lengths == sorted(lengths)
    assert all(length % 2 == 0 for length in lengths) and len(set(lengths)) == 7
    assert clip_length(ObjectiveSettings(), 16, 0, 2) == 16
