"""The code that the how-tos show, run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ACTIONS
from tests.docs.pages import EXAMPLES, ROOT, example
from tests.squares import moving_square
from v2w_convert import (
    ConvertSettings,
    FinetuneSettings,
    Sampling,
    V2WError,
    convert,
    finetune,
    load,
    noise,
    open_dataset,
    verify,
)
from v2w_convert.data import formats
from v2w_convert.operations import OPERATIONS
from v2w_convert.plan import grammar
from v2w_convert.plan.read import shipped_plans
from v2w_convert.plan.registry import is_known
from v2w_convert.verification import run as verification


def test_data_format(tiny_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, example("data_format").NpzFormat()))
    folder = tmp_path / "episodes"
    folder.mkdir()
    episodes = [moving_square(t, seed) for seed, t in enumerate((7, 9))]
    for number, episode in enumerate(episodes):
        np.savez(folder / f"{number:03d}.npz", frames=episode.frames, actions=episode.actions, fps=5)
    dataset = open_dataset(folder)
    assert (dataset.lengths, dataset.fps, dataset.action_dim) == ([7, 9], 5, ACTIONS)
    for read, written in zip(dataset.episodes(), episodes, strict=True):
        np.testing.assert_array_equal(read.frames, written.frames)
        np.testing.assert_array_equal(read.actions, written.actions)
    before = dataset.fingerprint()
    finetune(
        tiny_converted, folder, tmp_path / "run", FinetuneSettings(steps=1, batch=2, frames=6, device="cpu")
    )
    np.savez(folder / "000.npz", frames=episodes[1].frames, actions=episodes[1].actions, fps=5)
    assert open_dataset(folder).fingerprint() != before
    (folder / "000.npz").write_bytes(b"PK\3\4 damaged")
    with pytest.raises(V2WError, match=r"000\.npz"):
        _ = open_dataset(folder).lengths
    np.savez(folder / "000.npz", actions=np.zeros(3))
    with pytest.raises(V2WError, match=r"000\.npz: actions is of shape"):
        _ = open_dataset(folder).lengths
    (folder / "000.npz").rename(tmp_path / "000.npz")
    (folder / "000.npz").symlink_to(tmp_path / "000.npz")
    with pytest.raises(V2WError, match=r"000\.npz: it is a link to"):
        open_dataset(folder)


@pytest.mark.parametrize("every_claim", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_operation(
    every_claim: bool, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not every_claim:
        quick = {"tensors-kept", "identity", "invariants", "sites-causal", "stream-by-block"}
        checks = [c for c in verification.CHECKS if quick & {spec.id for spec in c.specs}]
        assert len(checks) == len(quick)
        monkeypatch.setattr(verification, "CHECKS", tuple(checks))
    monkeypatch.setattr(grammar, "OPERATIONS", (*OPERATIONS, example("operation").PastNorm))
    shipped = shipped_plans()["stable-video-diffusion"].read_text("utf-8")
    plan = tmp_path / "plan.yaml"
    plan.write_text(shipped.replace("frame_norm:", "past_norm:"), "utf-8")
    out = tmp_path / "converted"
    convert(tiny_base, out, ConvertSettings(action_dim=ACTIONS, plan=plan))
    report = verify(out, tiny_base)
    assert report.ok
    assert any("past_norm" in claim.sentence for claim in report.claims)
    sums = load(out).empty_state(1, 4, 4).sites
    assert any(set(state) == {"sums"} for state in sums.values())


def test_claim(
    tiny_base: Path, tiny_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = example("claim")
    monkeypatch.setattr(verification, "CHECKS", (*verification.CHECKS[:1], *module.CHECKS))
    report = verify(tiny_converted, tiny_base, report=tmp_path / "report")
    (claim,) = (claim for claim in report.claims if claim.id == "prefix-equal")
    assert claim.status == "holds"
    assert claim.sentence in (tmp_path / "report/report.html").read_text("utf-8")

    world = load(tiny_converted, dtype=torch.float64)
    forward = world.forward
    with torch.no_grad():
        assert module.measure_prefix(world).ok
        monkeypatch.setattr(world, "forward", lambda **inputs: forward(**inputs, bidirectional=True))
        assert not module.measure_prefix(world).ok


def test_noise_kind(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = example("noise_kind").TrigFlow
    monkeypatch.setitem(noise.KINDS, "trigflow", kind)
    level = torch.linspace(0.1, 1.5, 3, dtype=torch.float64)[None]
    clean, added = torch.randn(2, 1, 3, 4, 2, 2, dtype=torch.float64)
    for prediction in ("epsilon", "v", "sample"):
        spec = noise.NoiseSpec.model_validate({"kind": "trigflow", "prediction": prediction})
        built = spec.build()
        noisy, target = built.add_noise(clean, added, level), built.target(clean, added, level)
        for found, expected in zip(
            built.to_clean_and_noise(target, noisy, level), (clean, added), strict=True
        ):
            torch.testing.assert_close(found, expected)
    torch.testing.assert_close(built.add_noise(clean, added, 0 * level), clean, rtol=0, atol=0)

    base, plan = tmp_path / "base", tmp_path / "plan.yaml"
    shutil.copytree(tiny_base, base, ignore=shutil.ignore_patterns("scheduler"))
    shipped = shipped_plans()["stable-video-diffusion"].read_text("utf-8")
    plan.write_text(shipped.replace("kind: edm", "kind: trigflow"), "utf-8")
    convert(base, tmp_path / "converted", ConvertSettings(action_dim=ACTIONS, plan=plan))
    settings = FinetuneSettings(steps=1, batch=2, frames=6, device="cpu")
    finetune(tmp_path / "converted", tiny_data, tmp_path / "run", settings)
    world = load(tmp_path / "run")
    assert isinstance(world.noise, kind)
    stream = world.stream(b=1, h=8, w=8, sampling=Sampling(steps=2))
    assert bool(stream.step(torch.zeros(1, ACTIONS)).isfinite().all())


@pytest.mark.slow
def test_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_known("WanVACETransformer3DModel")
    module = example("family")
    monkeypatch.chdir(tmp_path)
    plan = EXAMPLES / "family.yaml"
    module.save_tiny_base(plan, "base")
    module.draft("base")
    assert "causal_attention" in capsys.readouterr().out
    module.convert_and_verify("base", plan)


@pytest.mark.slow
def test_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    example("whole_path")
    assert (tmp_path / "rollout.gif").stat().st_size > 1000


@pytest.mark.slow
def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    monkeypatch.chdir(ROOT)
    shown = example("environment")
    assert 0 < shown.reward < 1 and shown.frame.shape == (64, 64, 3)
    assert shown.frames.shape == (4, 64, 64, 3) and not shown.rewards.any()
