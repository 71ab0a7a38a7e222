"""Training both of two denoisers, or one of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import v2w_convert
from tests.finetuning.test_finetune import Stop, contents, stop_at
from tests.pairs import BOUNDARY, convert_pair, write_pair
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.settings import RolloutSettings
from v2w_convert.finetuning.batches import generators, sample_batch
from v2w_convert.finetuning.finetune import finetune
from v2w_convert.finetuning.levels import plain
from v2w_convert.finetuning.objective import loss
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.surgery.load import load
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.run import verify
from v2w_convert.world.experts import ExpertsWorld, LevelRange

SETTINGS = FinetuneSettings(steps=2, batch=2, frames=4, lr=1e-3, warmup=0.0, checkpoint_every=1)
SHAPE = (2, 200, 1, 1, 1)


@pytest.fixture(scope="module")
def pair(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base with two denoisers and an autoencoder, and what it is converted into."""
    folder = tmp_path_factory.mktemp("pair")
    base = write_pair(folder / "base", vae=tiny_base / "vae")
    return base, convert_pair(base, folder / "out")


def weights(folder: Path, part: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / part).glob("*.safetensors")}


@pytest.fixture(scope="module")
def trained(
    pair: tuple[Path, Path], tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A run that trains "both", "high" or "low"."""
    root, done = tmp_path_factory.mktemp("runs"), set()

    def run(expert: str) -> Path:
        if expert not in done:
            finetune(pair[1], tiny_data, root / expert, SETTINGS.model_copy(update={"expert": expert}))
            done.add(expert)
        return root / expert

    return run


@pytest.mark.parametrize("expert", ["both", "high", "low"])
def test_the_expert_that_is_not_trained_stays_bit_for_bit(
    expert: str, pair: tuple[Path, Path], trained: Callable[[str], Path]
) -> None:
    run = trained(expert)
    for name, part in (("high", "transformer"), ("low", "transformer_2")):
        same = weights(run, part) == weights(pair[1], part)
        assert same == (expert not in ("both", name))
    manifest = read_manifest(run)
    stages = {name: part.stage for name, part in manifest.experts.items()}
    assert stages == {name: "finetuned" if expert in ("both", name) else "converted" for name in stages}
    assert isinstance(load(run), ExpertsWorld)


def test_the_other_one_is_trained_in_a_second_run(
    pair: tuple[Path, Path], trained: Callable[[str], Path], tiny_data: Path, tmp_path: Path
) -> None:
    finetune(trained("high"), tiny_data, tmp_path / "run", SETTINGS.model_copy(update={"expert": "low"}))
    assert weights(tmp_path / "run", "transformer") == weights(trained("high"), "transformer")
    assert {part.stage for part in read_manifest(tmp_path / "run").experts.values()} == {"finetuned"}
    both = load(tmp_path / "run").state_dict()
    statistics = [name for name in both if name.endswith("v2w_action.scale")]
    assert len(statistics) == 2  # each has the data's, the first from its own run
    assert torch.equal(*(both[name] for name in statistics))


@pytest.mark.slow
def test_verify_knows_which_one_was_trained(pair: tuple[Path, Path], trained: Callable[[str], Path]) -> None:
    report = verify(trained("low"), pair[0])
    assert report.ok, [claim.sentence for claim in report.claims if not claim.ok]
    measured = {
        claim.expert: claim.measured is not None for claim in report.claims if claim.id == "tensors-kept"
    }
    assert measured == {"high": True, "low": False}


@pytest.mark.parametrize("expert", ["both", "high"])
def test_an_interrupted_run_ends_like_an_unbroken_one(
    expert: str, pair: tuple[Path, Path], trained: Callable[[str], Path], tiny_data: Path, tmp_path: Path
) -> None:
    run, settings = tmp_path / "run", SETTINGS.model_copy(update={"expert": expert})
    with pytest.raises(Stop):
        finetune(pair[1], tiny_data, run, settings, progress=stop_at("train", 1))
    finetune(pair[1], tiny_data, run, settings)
    assert contents(run) == contents(trained(expert))


@pytest.mark.parametrize("high", [True, False])
def test_levels_and_loss_of_one_expert(high: bool, pair: tuple[Path, Path]) -> None:
    """The loss is of frames in its range; levels of the history, outside of it, occur."""
    world = load(pair[1])
    levels = LevelRange(BOUNDARY, high)
    samples = sample_batch(
        SHAPE[1:], world.noise, plain(world.noise), None, generators(SHAPE[0], 0), 1, levels
    )
    inside = (samples.level >= BOUNDARY) == high
    assert samples.weight is not None
    assert torch.equal(samples.weight > 0, inside)
    assert float(samples.weight.mean()) == pytest.approx(1, abs=0.1)
    assert len(samples.weight[inside].unique()) == 1
    share = float(inside.float().mean())
    assert 0.5 + 0.5 * (0.125 if high else 0.875) == pytest.approx(share, abs=0.08)


@torch.no_grad()
def test_the_loss_of_one_expert_is_of_its_frames(pair: tuple[Path, Path]) -> None:
    world = load(pair[1])
    assert isinstance(world, ExpertsWorld)
    shape = (2, 6, 4, 4, 4)
    levels = LevelRange(BOUNDARY, True)
    samples = sample_batch(shape[1:], world.noise, plain(world.noise), None, generators(2, 0), 1, levels)
    clean, actions = torch.randn(shape), torch.randn(2, 6, 3)
    value = loss(world.high, clean, actions, samples)
    noisy = world.noise.add_noise(clean, samples.noise, samples.level)
    target = world.noise.target(clean, samples.noise, samples.level)
    inside = samples.level >= BOUNDARY
    assert samples.weight is not None and not inside.all()
    errors = (world.high(noisy, samples.level, actions) - target)[inside].square().sum()
    torch.testing.assert_close(value, samples.weight.max() * errors / clean.numel())
    parts = [loss(world.high, clean[i], actions[i], samples.select(i)) for i in (slice(0, 1), slice(1, 2))]
    torch.testing.assert_close(sum(parts) / 2, value)


def test_one_expert_of_a_model_with_one_denoiser_is_refused(
    tiny_converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(V2WError, match="the model has one denoiser"):
        finetune(tiny_converted, tiny_data, tmp_path / "run", SETTINGS.model_copy(update={"expert": "low"}))
    assert not (tmp_path / "run").exists()


def test_a_rollout_is_made_and_an_export_refused(
    trained: Callable[[str], Path], tiny_data: Path, tmp_path: Path
) -> None:
    result = v2w_convert.rollout(
        trained("both"), tiny_data, tmp_path / "video.png", RolloutSettings(frames=3, history=2, steps=4)
    )
    assert result.frames == 3 and (tmp_path / "video.png").exists()
    with pytest.raises(V2WError, match="it has two denoisers"):
        v2w_convert.export(trained("both"), tmp_path / "step.onnx", ExportSettings(height=8, width=8))
