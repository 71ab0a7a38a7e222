"""Pictures of a visit: where the autoencoder packs several video frames into a latent one, and from a visitor's picture."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.autoencoders import tiny_autoencoder
from tests.cli.commands import printed
from tests.encoders.pipelines import DDIM, Family, clip, image_autoencoder
from tests.tiny import tiny_model, tiny_resolved
from v2w_convert.data import open_dataset
from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.starts import write_starts
from v2w_convert.evaluation.rollout_frames import rollout_frames
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.playing.controls import Controls
from v2w_convert.playing.game import Game, Moment, open_game
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.playing.starts import Start
from v2w_convert.progress import no_progress
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.vae import VAE, as_uint8

STEPS = 2


@torch.no_grad()
@pytest.mark.parametrize(
    "autoencoder", ["AutoencoderKLWan", pytest.param("AutoencoderKLTemporalDecoder", marks=pytest.mark.slow)]
)
def test_pictures_are_those_of_a_rollout(autoencoder: str) -> None:
    vae = VAE(tiny_autoencoder(autoencoder), {})
    k, history, sampling = vae.packing.k, 1 + vae.packing.k, Sampling(1, 1.0, 0.0, 1.5)
    resolved, model = tiny_resolved("wan", window=4), tiny_model("wan")
    apply_surgery(resolved, model, k, seed=0)
    world = World(model, resolved, k).eval()
    randomize_zero_init(world.base)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (history, 32, 32, 3), dtype=np.uint8)
    seen = np.zeros((history, 1), np.float32)
    controls = Controls(ActionSpace.continuous(["gas"]), 1, -np.ones(1, np.float32), np.ones(1, np.float32))
    starts = [Start(0, frames, seen, ())]
    game = Game(
        "tiny",
        "made",
        5.0,
        world,
        vae,
        starts,
        {},
        controls,
        sampling,
        [1],
        True,
        lambda picture: {},
        None,
        1,
    )
    done = np.full(1, 0.5, np.float32)

    moment = game.begin(0, 7, sampling)
    made: list[np.ndarray] = []
    kept: list[Moment] = [moment]
    for _ in range(STEPS):
        [moment] = game.step([moment], [done], sampling)
        kept.append(moment)
        made += [np.asarray(Image.open(io.BytesIO(picture))) for picture in moment.pictures]
    assert len(made) == STEPS * game.pictures_per_step == STEPS * k

    actions = np.concatenate([seen, np.repeat(done[None], STEPS * k, 0)])
    latents = vae.encode(frames)[None]
    if autoencoder == "AutoencoderKLTemporalDecoder":  # decodes each frame by itself here
        stream = game.begin(0, 7, sampling).stream
        rolled = [stream.step_block(torch.from_numpy(done)[None, None]) for _ in range(STEPS)]
        expected = as_uint8(torch.cat([vae.decode(each)[0] for each in rolled]))
    else:
        each = rollout_frames(world, vae, latents, torch.from_numpy(actions)[None], history, sampling, 7)
        expected = np.concatenate([as_uint8(some[0]) for some in each])
    np.testing.assert_array_equal(np.stack(made), expected)

    # Decoding goes on from any moment that was kept, and from several at once.
    [again, other] = game.step([kept[1], kept[0]], [done, done], sampling)
    for twin, first in ((again, kept[2]), (other, kept[1])):
        for a, b in zip(twin.pictures, first.pictures, strict=True):
            difference = np.asarray(Image.open(io.BytesIO(a))).astype(int) - np.asarray(
                Image.open(io.BytesIO(b))
            )
            assert np.abs(difference).max() <= 1


def test_a_picture_is_begun_from_as_a_recorded_first_frame_is(tiny_converted: Path, tiny_data: Path) -> None:
    game = open_game(tiny_converted, tiny_data, PlaySettings(steps=1, history=1, starts=3), no_progress)
    pictures = game.conditions["image_latents"]  # made of the first frame, so that they are the picture's
    assert not torch.equal(pictures[0], pictures[2])
    recorded, taken = (
        game.begin(number, 3, game.sampling, picture)
        for number, picture in ((2, None), (0, game.starts[2].frames[0]))
    )
    for _ in range(3):
        assert recorded.pictures == taken.pictures
        done = game.controls.action([1, 1, 0.1])
        [recorded], [taken] = (game.step([each], [done], game.sampling) for each in (recorded, taken))
    assert game.step([game.begin(0, 3, game.sampling)], [done], game.sampling)[0].pictures != taken.pictures


def test_only_data_that_was_named_is_named(tiny_converted: Path, tiny_data: Path, tmp_path: Path) -> None:
    """The page says whose frames a visit begins from; "starts", a folder of the model, would tell nobody anything."""
    model = tmp_path / "model"
    shutil.copytree(tiny_converted, model)
    assert write_starts(open_dataset(tiny_data), model, 4) is None
    settings = PlaySettings(steps=1, history=1, starts=3)
    names = [open_game(model, data, settings, no_progress).data for data in (tiny_data, None)]
    assert names == [tiny_data.name, ""]


def test_a_visitors_prompt_is_encoded_as_that_of_the_command_line_is(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"motion_adapter": None, "vae": image_autoencoder()}
    base = Family("AnimateDiffPipeline", "animatediff", clip(16), DDIM, settings=parts).save(
        tmp_path / "base"
    )
    world = tmp_path / "world"
    printed(capsys, "convert", base, "-o", world, "--action-dim", 3)
    settings = PlaySettings(steps=1, history=2, starts=1, prompt="a maze")
    told = open_game(world, tiny_data, settings, no_progress)
    game = open_game(world, tiny_data, settings.model_copy(update={"prompt": None}), no_progress)
    moments = [told.begin(0, 3, told.sampling), *(game.begin(0, 3, game.sampling, None, said) for said in ("a maze", "snow", None))]  # fmt: skip
    done = game.controls.action(game.controls.resting())
    [[expected], [same], *others] = (game.step([each], [done], game.sampling) for each in moments)
    assert same.pictures == expected.pictures
    assert all(other.pictures != same.pictures for [other] in others)
