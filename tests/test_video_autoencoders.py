"""From a pipeline folder with a video autoencoder to a rollout, as a user types it."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.autoencoders import tiny_autoencoder
from tests.cli.commands import refused
from tests.squares import write
from tests.tiers import slow_except
from v2w_convert.cli import run
from v2w_convert.data import Episode, open_dataset, write_dataset
from v2w_convert.errors import V2WError
from v2w_convert.evaluation import action_following, context
from v2w_convert.evaluation.evaluate import evaluate
from v2w_convert.evaluation.rollout_frames import rollout_frames
from v2w_convert.evaluation.settings import EvaluateSettings
from v2w_convert.families.build import build_model
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.surgery.load import load
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.temporal_compression import TemporalCompression
from v2w_convert.world.vae import VAE, as_uint8, open_vae

A = 3  # numbers in an action of the data
FAMILIES = {
    "wan": "AutoencoderKLWan",
    "allegro": "AutoencoderKLAllegro",
    "cogvideox": "AutoencoderKLCogVideoX",
}
FAST = {"wan"}
AUTOENCODERS = FAMILIES | {"mochi": "AutoencoderKLMochi"}

# Latents of 4 x 4: Allegro's denoiser does not take a single token.
ALLEGRO = {
    "block_out_channels": [8] * 3,
    "down_block_types": ["AllegroDownBlock3D"] * 3,
    "up_block_types": ["AllegroUpBlock3D"] * 3,
    "temporal_downsample_blocks": [True, True, False],
    "temporal_upsample_blocks": [False, True, True],
}

Make = Callable[[str], Path]


def v2w(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """By a plan's name, a pipeline folder: its tiny denoiser and the autoencoder that it comes with, no layer zero."""
    root = tmp_path_factory.mktemp("pipelines")

    def make(family: str) -> Path:
        folder = root / family
        if not folder.exists():
            plan = read_plan(shipped_plans()[family])
            torch.manual_seed(0)
            denoiser = build_model(plan.base, dict(plan.tiny))
            randomize_zero_init(denoiser)
            denoiser.save_pretrained(folder / "transformer")
            smaller = ALLEGRO if family == "allegro" else {}
            tiny_autoencoder(AUTOENCODERS[family], **smaller).save_pretrained(folder / "vae")
            (folder / "scheduler").mkdir()
            (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(plan.noise.scheduler))
            (folder / "model_index.json").write_text("{}\n")
        return folder

    return make


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "squares", (27, 4, 30), seed=0)


@pytest.fixture(scope="module")
def runs(pipelines: Make, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """By a plan's name, its pipeline converted for the data's actions and finetuned for two steps."""
    root = tmp_path_factory.mktemp("runs")

    def make(family: str) -> Path:
        if not (root / family).exists():
            assert v2w("convert", pipelines(family), "-o", root / f"{family}0", "--data", data) == 0
            assert read_manifest(root / f"{family}0").action_dim == 4 * A
            options = ["--steps", 2, "--batch", 2, "--frames", 3, "--lr", 0.01, "--device", "cpu"]
            folders = [root / f"{family}0", "--data", data, "-o", root / family]
            assert v2w("finetune", *folders, *options) == 0
        return root / family

    return make


@pytest.mark.parametrize("family", slow_except(FAST, FAMILIES))
def test_from_a_pipeline_to_a_rollout(
    family: str,
    runs: Make,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, leaks = runs(family), family != "wan"
    expected = {
        "name": FAMILIES[family],
        "temporal_compression": 4,
        "sees_later_frames": leaks,
    }
    assert json.loads((folder / "run.json").read_text())["autoencoder"] == expected
    assert json.loads((folder / "v2w.json").read_text())["finetuning"]["autoencoder"] == expected
    history = 8 if family == "allegro" else 9
    arguments = ["rollout", folder, "--data", data, "--steps", 2, "--frames", 6, "--json"]
    for name in ("a.png", "b.mp4"):
        capsys.readouterr()
        assert v2w(*arguments, "-o", tmp_path / name) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["history"] == history
        assert (tmp_path / name).stat().st_size > 500
    arguments = ["evaluate", folder, "--data", data, "--steps", 1, "--samples", 2, "--long-frames", 7]
    assert v2w(*arguments, "--json", "--history", history) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["history"] == result["settings"]["history"] == history
    assert result["horizons"].keys() == {"1", "4", "8", "16"}
    assert result["long_horizon"]["frames"] == 7


def test_actions_are_classified_by_video_frames(
    runs: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # How well it classifies is tests/evaluation's; here it only has to run.
    train = partial(action_following.train_inverse_dynamics, steps=3)
    monkeypatch.setattr(action_following, "train_inverse_dynamics", train)
    chance = np.random.default_rng(0)
    episodes = [
        Episode(
            chance.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8),
            np.eye(A, dtype=np.float32)[chance.integers(A, size=24)],
        )
        for _ in range(2)
    ]
    folder = tmp_path / "data"
    write_dataset(episodes, folder, fps=5, action_names=["a", "b", "c"], task="test", robot="test")
    arguments = ["evaluate", runs("wan"), "--data", folder, "--classifier-data", folder, "--history", 5]
    assert v2w(*arguments, "--steps", 1, "--samples", 1, "--long-frames", 0, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= result["actions"]["inverse_dynamics"][0]["generated"]["mean"] <= 1


def test_horizons_may_end_within_a_latent_frame(
    pipelines: Make, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mochi"  # six video frames to a latent frame: 16 are no whole ones
    assert v2w("convert", pipelines("mochi"), "-o", folder, "--action-dim", 6 * A) == 0
    arguments = ["evaluate", folder, "--data", data, "--steps", 1, "--samples", 1, "--long-frames", 0]
    capsys.readouterr()
    assert v2w(*arguments, "--history", 7, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["horizons"].keys() == {"1", "4", "8", "16"}


def test_a_leaking_autoencoder_is_reported_in_one_line(
    runs: Make, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for family, said in (("wan", False), ("cogvideox", True)):
        folder = runs(family)
        capsys.readouterr()
        options = ["--steps", 2, "--batch", 2, "--frames", 3, "--lr", 0.01, "--device", "cpu"]
        converted = folder.parent / f"{family}0"
        assert v2w("finetune", converted, "--data", data, "-o", folder, *options) == 0
        lines = capsys.readouterr().err.splitlines()
        assert sum("latents depend on later frames" in line for line in lines) == said


@pytest.mark.parametrize("family", slow_except(FAST, FAMILIES))
def test_episodes_are_cut_to_whole_latent_frames_with_their_actions(
    family: str, runs: Make, data: Path
) -> None:
    folder = runs(family)
    (file,) = (folder / "latents").rglob("*.safetensors")
    stored, pixels = load_file(file), open_vae(folder)
    for number, episode in enumerate(open_dataset(data).episodes()):
        j = len(episode) // 4 if family == "allegro" else 1 + (len(episode) - 1) // 4
        t = 4 * j if family == "allegro" else 4 * j - 3
        latents, actions = (stored[f"{number:08d}.{name}"] for name in ("latents", "actions"))
        assert torch.equal(latents, pixels.encode(episode.frames[:t]).half())
        assert actions.shape == (j, 4 * A)
        for row in range(1, j):
            first = 4 * row if family == "allegro" else 4 * row - 3
            # Row i of an episode's actions led to frame i + 1.
            led = episode.actions[first - 1 : first + 3]
            np.testing.assert_array_equal(actions[row].view(4, A), led)


@pytest.mark.parametrize("family", slow_except(FAST, FAMILIES))
def test_predictions_know_nothing_of_the_frames_to_come(
    family: str, runs: Make, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same history and actions, other frames after it: the same rollouts, although some latents see later frames."""
    folder = runs(family)
    found: list[torch.Tensor] = []
    history = 8 if family == "allegro" else 9

    def recorded(*args: Any) -> Iterator[torch.Tensor]:
        found.append(torch.cat(list(rollout_frames(*args)), 1))
        yield found[-1]

    monkeypatch.setattr(context, "rollout_frames", recorded)
    read = context.read_episodes

    def other_future(*args: Any) -> Any:
        episodes = read(*args)
        for episode in episodes:
            episode.frames[history:] ^= 255
        return episodes

    settings = EvaluateSettings(history=history, samples=1, long_frames=0, steps=1)
    evaluate(folder, data, settings)
    monkeypatch.setattr(context, "read_episodes", other_future)
    evaluate(folder, data, settings)
    before, after = found[: len(found) // 2], found[len(found) // 2 :]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(before[0], before[1])  # those with other actions


def test_a_rollout_follows_its_packed_actions_and_decodes_in_context(runs: Make, data: Path) -> None:
    folder = runs("wan")
    world, pixels = load(folder), open_vae(folder)
    episode = next(iter(open_dataset(data).episodes()))
    frames, actions = episode.frames[:9], torch.from_numpy(episode.arriving_actions[:20])[None]
    latents = pixels.encode(frames[None])

    def roll(actions: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(rollout_frames(world, pixels, latents, actions, 9, Sampling(2), 0)), 1)[0]

    rolled = roll(actions)
    assert rolled.shape == (11, 3, 16, 16)  # of three latent frames, the last of which is cut
    stream = world.stream(1, 2, 2, sampling=Sampling(2), seed=0)
    packed = TemporalCompression(4).actions(torch.cat([actions, actions[:, -1:]], 1))  # 21 frames are whole
    stream.observe(latents, packed[:, :3])
    after = torch.stack([stream.step(packed[:, j]) for j in range(3, 6)], 1)
    decoded = pixels.decode(torch.cat([latents, after], 1))[0]
    assert torch.equal(rolled, decoded[9:20])
    for frame in range(20):
        changed = actions.clone()
        changed[:, frame] += 1
        moved = (roll(changed) != rolled).flatten(1).any(1).nonzero().flatten()
        if frame == 0:
            assert not len(moved)  # nothing led to the first frame
        else:  # the four video frames of its latent frame, and all after
            assert moved[0] == max(4 * -(-frame // 4) - 3, 9) - 9
            assert moved[-1] == 10


@pytest.mark.slow
def test_an_environment_holds_its_action_and_decodes_in_context(runs: Make, data: Path) -> None:
    pytest.importorskip("gymnasium")
    from v2w_convert.env import WorldEnv

    folder = runs("wan")
    record = read_manifest(folder).finetuning
    assert record is not None
    assert [part["labels"] for part in record["actions"]["parts"]] == [["down", "right", "nothing"]]
    episode = open_dataset(data).first()
    env = WorldEnv(folder, starts=[episode], steps=2)  # the record says what actions are
    space: Any = env.action_space
    least = np.array(record["actions"]["min"], np.float32).reshape(4, A)
    assert np.array_equal(space.low, least.min(0)) and env.metadata["render_fps"] == 5 / 4
    seen = [env.reset(seed=0)[0]]
    stream = env.branch().moment.stream
    latents = list(env._opened.latents(0)[None].unbind(1))
    for i in range(3):
        action = space.low + i * (space.high - space.low) / 3
        seen.append(env.step(action)[0])
        moment = env.branch()
        latents.append(stream.step(torch.from_numpy(action)[None].repeat(1, 4)))
    decoded = as_uint8(open_vae(folder).decode(torch.stack(latents, 1))[0])
    assert np.array_equal(np.stack(seen), decoded[8::4])  # the last video frame of each latent frame
    on = env.step(space.low)[0]
    env.restore(moment)
    assert np.array_equal(env.step(space.low)[0], on)  # with what decoding keeps of the frames before
    with pytest.raises(V2WError, match="decodes several latent frames together"):
        WorldEnv(runs("allegro"), starts=[episode])


def test_misfits(
    pipelines: Make, runs: Make, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, right = tmp_path / "wrong", runs("wan").parent / "wan0"
    assert v2w("convert", pipelines("wan"), "-o", wrong, "--action-dim", A) == 0
    said = partial(refused, capsys)
    made = set(tmp_path.iterdir())
    run = ["-o", tmp_path / "run", "--device", "cpu"]
    line = said("finetune", wrong, "--data", data, *run)
    assert "have 3 numbers, 12 with 4 video frames to a latent frame" in line
    assert "convert with --action-dim 12" in line
    line = said("finetune", right, "--data", data, "--frames", 9, *run)
    assert "no episode has 33 frames, the longest has 30 (clips are of 9 latent frames, 4 video" in line
    out = ["-o", tmp_path / "out.png"]
    assert "--action-dim 12" in said("rollout", wrong, "--data", data, *out)
    line = said("rollout", right, "--data", data, *out, "--history", 6)
    assert "packs 4 video frames to a latent frame, the first alone (try: a history of 9 frames)" in line
    line = said("evaluate", right, "--data", data, "--history", 10)
    assert "(try: a history of 13 frames)" in line
    assert set(tmp_path.iterdir()) == made
    small = write(tmp_path / "small", (9,), size=12)
    for arguments in (
        ["finetune", right, "--data", small, "--frames", 2, *run],
        ["rollout", right, "--data", small, *out, "--history", 5],
        ["evaluate", right, "--data", small, "--history", 5],
    ):
        assert "12 x 12 come back from the autoencoder as 8 x 8 (try: multiples of 8)" in said(
            *arguments, noted="'nothing'"
        )
    assert not (tmp_path / "run").exists()


def test_blocks_are_of_latent_frames(
    pipelines: Make, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = tmp_path / "blocks"
    options = ["--action-dim", 4 * A, "--frames-per-block", 2]
    assert v2w("convert", pipelines("wan"), "-o", blocks, *options) == 0
    out = ["-o", tmp_path / "out.png", "--frames", 5, "--steps", 1]
    line = refused(capsys, "rollout", blocks, "--data", data, *out, "--history", 9)
    assert "blocks of 2 and the autoencoder packs 4 video frames" in line
    assert "(try: a history of 13 frames)" in line
    assert v2w("rollout", blocks, "--data", data, *out, "--json") == 0  # by itself, it takes 13
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["history"] == 13


def test_an_episode_that_does_not_fit_into_memory_is_a_clear_error(
    runs: Make,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = VAE.encode

    def encode(pixels: VAE, frames: Any) -> Any:
        if len(frames) > 20:
            raise torch.OutOfMemoryError
        return right(pixels, frames)

    monkeypatch.setattr(VAE, "encode", encode)
    converted = runs("wan").parent / "wan0"
    run = ["-o", tmp_path / "run", "--device", "cpu", "--frames", 3]
    notes = "'nothing' / cpu will hold / comes back from the autoencoder"
    line = refused(capsys, "finetune", converted, "--data", data, *run, noted=notes)
    assert "not enough memory to encode the 25 frames of episode 0 as a whole" in line
    assert not (tmp_path / "run").exists()
