"""The commands of the tutorials, run on tiny pipelines of the same classes, with fewer steps."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from tests.autoencoders import tiny_autoencoder
from tests.data.recordings import table, video
from tests.docs.pages import DOCS, commands, example
from v2w_convert.cli import run
from v2w_convert.data import open_dataset
from v2w_convert.families.build import build_model
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import read_plan, shipped_plans

pytestmark = pytest.mark.slow

# What makes a command quick; it is put behind the page's own options, of which the last counts.
QUICK = {
    "finetune": [
        "--steps",
        "2",
        "--batch",
        "2",
        "--frames",
        "3",
        "--mixed-precision",
        "no",
        "--device",
        "cpu",
    ],
    "rollout": ["--steps", "1", "--device", "cpu"],
    "evaluate": ["--steps", "1", "--samples", "1", "--long-frames", "0", "--device", "cpu"],
    "export": ["--height", "4", "--width", "4", "--frames", "3"],
}
# As deep as the real ones, so that latents of the page's 64 x 64 pictures are 8 x 8.
AUTOENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "stable-video-diffusion": (
        "AutoencoderKLTemporalDecoder",
        {"block_out_channels": [32] * 4, "down_block_types": ["DownEncoderBlock2D"] * 4},
    ),
    "wan": ("AutoencoderKLWan", {}),
}


def pipeline(plan_name: str, component: str, scheduler: Any, folder: Path) -> None:
    """A pipeline folder of a plan's class, tiny and randomly initialised."""
    plan = read_plan(shipped_plans()[plan_name])
    torch.manual_seed(0)
    denoiser = build_model(plan.base, dict(plan.tiny))
    randomize_zero_init(denoiser)
    denoiser.save_pretrained(folder / component)
    name, config = AUTOENCODERS[plan_name]
    tiny_autoencoder(name, **config).save_pretrained(folder / "vae")
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text("{}\n")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the data sets of "Your own robot data", of which the page's code makes small ones."""
    monkeypatch.chdir(tmp_path)
    example("own_data")
    return tmp_path


def run_page(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run the commands of a tutorial; the names of those that were run."""
    done = []
    for words in commands(DOCS / "tutorials" / f"{name}.md"):
        quick = [] if words[0] == "rollout" and "--steps" in words else QUICK.get(words[0], [])
        code = run([*words, *quick])
        assert code == 0, f"v2w {' '.join(words)}: {capsys.readouterr().err}"
        done.append(words[0])
    return done


def test_stable_video_diffusion(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
    )
    pipeline("stable-video-diffusion", "unet", scheduler, workplace / "svd")
    done = run_page("stable-video-diffusion", capsys)
    assert done == ["inspect", "convert", "convert", "verify", "finetune", "rollout", "evaluate", "export"]
    assert "1" in json.loads((workplace / "figures.json").read_text())["horizons"]


def test_wan(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline("wan", "transformer", FlowMatchEulerDiscreteScheduler(), workplace / "wan")
    done = run_page("wan", capsys)
    assert done == ["inspect", "convert", "convert", "verify", "finetune", "rollout", "evaluate"]


def test_own_data(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As those go about it who have the page, and a folder of mp4 and CSV files."""
    for name in ("train", "test"):
        written = Path("data") / name
        episodes = list(open_dataset(written).episodes())
        shutil.rmtree(written)
        written.mkdir()
        for number, episode in enumerate(episodes):
            video(written / f"take_{number}.mp4", episode.frames, fps=10)
            table(written / f"take_{number}.csv", episode.actions, [f"joint_{i}" for i in range(7)])
    pipeline("stable-video-diffusion", "unet", EulerDiscreteScheduler(), workplace / "base")
    assert run_page("own-data", capsys) == ["data", "convert", "finetune", "rollout", "evaluate"]
    assert json.loads((workplace / "run/v2w.json").read_text())["action_dim"] == 7
    assert (workplace / "run/loss.png").is_file()
    assert (workplace / "report/report.html").is_file()
