import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mutations import faults
from tests.mutations.suite import NOISE
from tests.noise.released import ALLEGRO, RELEASED, TOKENS, Release
from tests.tiny import tiny_plan
from v2w_convert.noise import Noise, NoiseSpec, noise_spec_from_scheduler
from v2w_convert.plan.read import shipped_plans
from v2w_convert.surgery.load import open_converted
from v2w_convert.verification.claims.noise import ROUNDING, SPECS, measure_noise, scheduler_of
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.report.fixes import add_fixes

ALL = {**RELEASED, "allegro": Release("allegro", ALLEGRO)}


def noise_of(release: Release) -> Noise:
    return noise_spec_from_scheduler(release.config, tiny_plan(release.plan).noise).build()


@pytest.mark.parametrize("name", ALL)
def test_all_hold_for_every_release(name: str) -> None:
    release = ALL[name]
    with exact():
        noise = noise_of(release)
        claims = measure_noise(noise, release.config, TOKENS)
    assert [claim.spec for claim in claims] == list(SPECS)
    assert all(claim.status == "holds" for claim in claims), [(c.id, c.measured) for c in claims if not c.ok]


class OfNoise:
    """What a fault changes of a world."""

    def __init__(self, noise: Noise):
        self.noise = noise


RELEASE_OF = {
    "wan": "wan 2.1",
    "wan, sinks": "wan 2.2",
    "sana": "sana-video",
    "cogvideox": "cogvideox-5b",
    "hunyuan": "hunyuan-video",
    "ltx": "ltx-video 0.9.0",
    "i2vgen": "i2vgen-xl",
    "mochi, as shipped": "mochi",
    "cosmos, as shipped": "cosmos 1.0",
}


@pytest.mark.parametrize(
    ("name", "claim", "model"), [(name, claim, model) for name, _, claim, models in NOISE for model in models]
)
def test_every_fault_of_the_noise_is_caught(name: str, claim: str, model: str) -> None:
    fault: Any = next(fault for kind, fault, *_ in NOISE if kind == name)
    release = RELEASED[RELEASE_OF.get(model, model)]
    world = OfNoise(noise_of(release))
    fault(world)
    found = {claim.id: claim for claim in measure_noise(world.noise, release.config, TOKENS)}
    assert not found[claim].ok
    assert found[claim].measured is not None
    assert found[claim].measured > 10 * ROUNDING or found[claim].measured != found[claim].measured


def test_the_folders_own_scheduler_is_asked(rewritten: Callable[..., Path]) -> None:
    """A manifest whose noise is not that of the folder's scheduler."""
    folder = rewritten()
    file = folder / "v2w.json"
    record = json.loads(file.read_text())
    record["plan"]["noise"]["scheduler"]["beta_end"] = 0.01
    file.write_text(json.dumps(record))
    _, source, resolved = open_converted(folder)
    noise = resolved.noise.build()
    claims = measure_noise(noise, scheduler_of(source, noise), TOKENS)
    assert {claim.id for claim in claims if not claim.ok} == {"noise-added", "noise-stepped"}
    (fix,) = (claim.fix for claim in add_fixes(claims, resolved) if claim.id == "noise-added")
    assert "scheduler_config.json" in fix


def test_dynamicrafters_scaled_frames_are_no_schedulers() -> None:
    spec = tiny_plan("vid2world").noise
    claims = {
        claim.id: claim
        for claim in measure_noise(spec.build(), {"_class_name": "DDIMScheduler", **spec.scheduler}, 1)
    }
    assert claims["noise-added"].status == "holds"
    assert claims["noise-stepped"].status == "not measured"


def test_a_kind_without_a_scheduler_is_not_measured() -> None:
    noise = NoiseSpec(kind="flow", prediction="flow").build()
    assert {claim.status for claim in measure_noise(noise, None, 1)} == {"not measured"}


def test_faults_are_named_after_what_they_do() -> None:
    assert all(getattr(faults, fault.__name__) is fault for _, fault, *_ in NOISE)


@pytest.mark.parametrize("name", sorted(shipped_plans()))
def test_all_hold_for_every_plan_as_it_is_shipped(name: str) -> None:
    """For checkpoints that come without a scheduler."""
    noise = tiny_plan(name).noise.build()
    config: Any = {"_class_name": "DDIMScheduler", **noise.spec.scheduler}
    if noise.spec.kind != "ddpm":
        built = noise.scheduler  # type: ignore[attr-defined]
        config = {**built.config, "_class_name": type(built).__name__}
    claims = measure_noise(noise, config, TOKENS)
    assert all(claim.ok for claim in claims), [(c.id, c.measured) for c in claims if not c.ok]
