"""First frames as pictures and tasks as prompts, from convert to rollout, by the command line, on real recordings."""

from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest

from tests.autoencoders import tiny_autoencoder
from tests.cli.commands import printed
from tests.encoders.pipelines import PICTURED, Family, t5
from v2w_convert.data import Episode, open_dataset, write_dataset
from v2w_convert.surgery.manifest import read_manifest

DOOM = Path(__file__).parents[2] / "examples/doom/data/train"
FRAMES, T = 13, 3  # video frames of an episode, latent frames of a clip
SVD, WAN = PICTURED[0], PICTURED[1]
COGVIDEOX = Family(
    "CogVideoXImageToVideoPipeline",
    "cogvideox",
    t5(8),
    diffusers.CogVideoXDDIMScheduler,
    {"in_channels": 8, "max_text_seq_length": 226},
    settings={"vae": tiny_autoencoder("AutoencoderKLCogVideoX")},
)


def doom(folder: Path, task: str = "wander") -> Path:
    """The beginnings of three episodes, half as large."""
    data = open_dataset(DOOM)
    episodes = []
    for number, episode in enumerate(data.episodes()):
        episodes.append(Episode(episode.frames[:FRAMES, ::2, ::2].copy(), episode.actions[:FRAMES]))
        if number == 2:
            break
    write_dataset(episodes, folder, fps=9, action_names=data.action_names, task=task)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return doom(tmp_path_factory.mktemp("doom") / "data")


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """`convert(family, actions, *options)`: a converted folder."""

    def write(family: Family, actions: int, *options: object) -> Path:
        base = family.save(tmp_path / "base")
        printed(capsys, "convert", base, "-o", tmp_path / "converted", "--action-dim", actions, *options)
        return tmp_path / "converted"

    return write


@pytest.mark.parametrize(
    ("family", "actions", "own"),
    [
        pytest.param(SVD, 3, {"image_latents": "first frame", "text": "first frame"}, id="svd"),
        pytest.param(
            WAN,
            12,
            {"text": "task", "image_embeds": "first frame", "image_latents": "first frame"},
            id="wan",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            COGVIDEOX,
            12,
            {"text": "task", "image_latents": "first frame"},
            id="cogvideox",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_model_learns_and_rolls_out_with_the_same_conditions(
    family: Family,
    actions: int,
    own: dict[str, str],
    convert: Callable[..., Path],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    converted, run = convert(family, actions), tmp_path / "run"
    short = ["--steps", 2, "--batch", 2, "--frames", T, "--device", "cpu"]
    result = printed(capsys, "finetune", converted, "--data", data, "-o", run, *short)
    assert result["conditions"] == own and result["notes"] == []
    manifest = read_manifest(run)
    assert manifest.finetuning is not None and manifest.finetuning["conditions"] == own
    assert manifest.prompt == (None if family is SVD else "")
    rolled = [
        "rollout",
        run,
        "--data",
        data,
        "--frames",
        4,
        "--steps",
        2,
        "--history",
        5 if actions == 12 else 2,
    ]
    printed(capsys, *rolled, "-o", tmp_path / "a.png", "--device", "cpu")
    printed(capsys, "verify", run, "--base", tmp_path / "base")
