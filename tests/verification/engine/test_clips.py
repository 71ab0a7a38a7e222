import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from tests.mutations import faults
from tests.squares import write
from v2w_convert.cli import run as v2w
from v2w_convert.data import DataSettings, open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.verification.claims.distance import measure_distance, record_base
from v2w_convert.verification.engine.clips import read_clips, relative_size
from v2w_convert.verification.engine.models import Models
from v2w_convert.verification.settings import VerifySettings
from v2w_convert.world.vae import open_vae


def test_the_middle_of_each_episode_that_is_long_enough(
    models: Models, tiny_converted: Path, tiny_data: Path
) -> None:
    clips = read_clips(tiny_data, DataSettings(), tiny_converted, models.world)
    episodes = [episode.frames for episode in open_dataset(tiny_data).episodes()]
    assert [len(frames) for frames in episodes] == [9, 3, 7, 12]
    pixels = open_vae(tiny_converted)
    for clip, frames in zip(clips.latents, [episodes[0][1:8], episodes[2], episodes[3][2:9]], strict=True):
        assert torch.equal(clip.float(), pixels.encode(frames))
    assert clips.description == "3 clips of squares, no conditions"
    assert relative_size(clips, models.world) == 3 * 8 * 8 / (4 * 8)


def test_they_are_read_as_data_is_elsewhere(models: Models, tiny_converted: Path, tiny_data: Path) -> None:
    settings = VerifySettings(clips=tiny_data, height=8, width=16, fit="stretch", stride=1)
    clips = read_clips(tiny_data, settings, tiny_converted, models.world)
    assert clips.latents.shape[-2:] == (4, 8)
    with pytest.raises(V2WError, match="no episode has 7 frames"):
        read_clips(tiny_data, VerifySettings(clips=tiny_data, stride=2), tiny_converted, models.world)


def test_the_base_itself_has_no_distance_on_them(
    models: Models, tiny_converted: Path, tiny_data: Path
) -> None:
    """In the bidirectional form with the base's own weights; the causal form is at some distance."""
    assert models.base is not None
    clips = read_clips(tiny_data, DataSettings(), tiny_converted, models.world)
    recorded = record_base(models.base, models.world.resolved, models.world.action_dim, clips)
    claim, figure = measure_distance(models.world, recorded)
    assert claim.measured is not None and claim.measured > 0.01
    assert all(number > 0 for row in figure["frames"] for number in row)
    models.world.base.load_state_dict(models.base.state_dict(), strict=False)
    for site in models.world.sites.values():
        faults.sees_future(site)
    claim, figure = measure_distance(models.world, recorded)
    assert claim.measured is not None and claim.measured < 1e-12
    assert max(figure["sites"].values()) < 1e-12


@pytest.mark.slow
def test_the_report_says_what_the_distance_was_measured_on(
    tiny_converted: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["verify", tiny_converted, "--base", tiny_base, "--clips", tiny_data, "-o", tmp_path]
    assert v2w([*map(str, arguments), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    claim = next(claim for claim in result["claims"] if claim["id"] == "distance")
    assert "3 clips of squares, no conditions" in claim["how"]
    assert result["figures"]["distance"]["clips"] == "3 clips of squares, no conditions"
    assert "--clips squares" in result["run"]["command"]
    assert "3 clips of squares" in (tmp_path / "report.html").read_text()


def test_what_cannot_be_measured_on_is_refused(
    models: Models, tiny_converted: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    def refused(match: str, data: Path, converted: Path = tiny_converted, camera: str | None = None) -> None:
        with pytest.raises(V2WError, match=match):
            read_clips(data, DataSettings(camera=camera), converted, models.world)

    refused("no episode has 7 frames", write(tmp_path / "short", (6, 3)))
    refused("no camera 'left'", tiny_data, camera="left")
    other = shutil.copytree(tiny_converted, tmp_path / "other")
    AutoencoderKL(latent_channels=8, norm_num_groups=4, block_out_channels=[8]).save_pretrained(other / "vae")
    refused(r"not \(b t 4 h w\)", tiny_data, other)
    bare = shutil.copytree(tiny_converted, tmp_path / "bare")
    shutil.rmtree(bare / "vae")
    refused("there is no vae", tiny_data, bare)
    report = tmp_path / "report"
    for arguments in (
        ["--clips", str(tiny_data)],
        ["--base", str(tiny_base), "--clips", str(tmp_path / "none")],
        ["--base", str(tiny_base), "--clips", str(tmp_path / "short")],
        ["--base", str(tiny_base), "--clips", str(tiny_data), "--action-key", "none"],
        ["--base", str(tiny_base), "--action-key", "action"],
    ):
        assert v2w(["verify", str(tiny_converted), *arguments, "-o", str(report)]) == 2
    assert not report.exists()
