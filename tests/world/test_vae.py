"""Autoencoders as their families' pipelines use them. Expected scalings are spelt out here as diffusers' pipelines do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.autoencoders import TINY, tiny_autoencoder
from v2w_convert.errors import V2WError
from v2w_convert.world.vae import VAE, looks_ahead, open_vae, require_frame_size
from v2w_convert.world.vae_kinds import CHUNK, KINDS

LEAKING = {"AutoencoderKLAllegro", "AutoencoderKLCogVideoX", "AutoencoderKLHunyuanVideo"}
K = {"AutoencoderKLCosmos": 8, "AutoencoderKLLTX2Video": 8, "AutoencoderKLMochi": 6}


def noise(t: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (t, size, size, 3), dtype=np.uint8)


def tiny_pixels(name: str, **config: Any) -> VAE:
    return VAE(tiny_autoencoder(name, **config), {})


def test_every_class_that_is_served_is_tried() -> None:
    assert KINDS.keys() == {"AutoencoderKL", *TINY}


@pytest.mark.parametrize("name", TINY)
def test_frames_become_latents_and_come_back(name: str) -> None:
    pixels = tiny_pixels(name)
    k = 1 if "TemporalDecoder" in name else K.get(name, 4)
    alone = "Allegro" not in name
    for j in (1, 2, 3, 6):  # odd and even, and more than any autoencoder takes at once
        t = 1 + k * (j - 1) if alone else k * j
        latents = pixels.encode(noise(t))
        assert latents.shape[:2] == (j, 4)
        assert latents.dtype == torch.float32
        pictures = pixels.decode(latents)
        assert pictures.shape == (t, 3, 32, 32)
        assert 0 <= pictures.min() < pictures.max() <= 1


@pytest.mark.parametrize("name", TINY)
def test_clips_are_coded_one_by_one_and_context_is_left_out(name: str) -> None:
    pixels = tiny_pixels(name)
    t = pixels.packing.frames(3)
    clips = np.stack([noise(t), noise(t, seed=1)])
    latents = pixels.encode(clips)
    one_by_one = torch.stack([pixels.encode(clip) for clip in clips])
    pictures = pixels.decode(latents)
    if "TemporalDecoder" in name:  # pictures are encoded in batches of several clips: other sums, by rounding
        torch.testing.assert_close(latents, one_by_one)
        pictures_one_by_one = torch.stack([pixels.decode(clip) for clip in latents])
    else:
        assert torch.equal(latents, one_by_one)
        pictures_one_by_one = torch.stack([pixels.decode(clip) for clip in one_by_one])
    assert torch.equal(pictures, pictures_one_by_one)
    assert torch.equal(pixels.decode(latents, seen=2), pictures[:, pixels.packing.frames(2) :])


def test_an_autoencoder_of_single_pictures_knows_no_clips(tiny_base: Path) -> None:
    pixels = open_vae(tiny_base)
    clips = np.stack([noise(3, size=16), noise(3, size=16, seed=1)])
    latents = pixels.encode(clips)
    assert torch.equal(latents.flatten(0, 1), pixels.encode(clips.reshape(6, 16, 16, 3)))
    pictures = pixels.decode(latents[:, 1:])
    # Strides in memory differ, and with them the order of sums: by how much depends on the processor's kernels.
    allowed = 16 * torch.finfo(torch.float32).eps  # of numbers up to 1
    torch.testing.assert_close(pixels.decode(latents, seen=1), pictures, rtol=0, atol=allowed)
    torch.testing.assert_close(pixels.decode(latents)[:, 1:], pictures, rtol=0, atol=allowed)


def test_wan_22_packs_like_wan_21() -> None:
    layers = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12}
    pixels = tiny_pixels("AutoencoderKLWan", **layers, scale_factor_spatial=16)
    frames = noise(9)
    latents = pixels.encode(frames)
    assert latents.shape == (3, 4, 2, 2)
    assert pixels.decode(latents).shape == (9, 3, 32, 32)
    assert not looks_ahead(pixels, frames)


@pytest.mark.parametrize("name", TINY)
def test_whether_latents_see_later_frames_is_measured(name: str) -> None:
    pixels = tiny_pixels(name)
    assert looks_ahead(pixels, noise(pixels.packing.frames(4))) == (name in LEAKING)
    assert not looks_ahead(pixels, noise(pixels.packing.frames(1)))


@pytest.mark.parametrize("name", TINY)
def test_a_video_frame_changes_its_own_latent_frame_and_none_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in LEAKING:  # by the statistics of norms: without them, what is left is local
        monkeypatch.setattr(F, "group_norm", lambda x, *args: x)
    pixels = tiny_pixels(name, **{"mid_block_add_attention": False} if "HunyuanVideo" == name[13:] else {})
    k, t = pixels.packing.k, pixels.packing.frames(4)
    frames = noise(t)
    latents = pixels.encode(frames)
    for frame in range(t):
        changed = frames.copy()
        changed[frame] ^= 255
        change = (pixels.encode(changed) - latents).flatten(1).norm(dim=1)
        if name == "AutoencoderKLAllegro":  # its convolutions reach in both directions
            assert change.argmax() - frame // k in (0, 1)
            continue
        moved = change.nonzero().flatten().tolist()
        assert moved[0] == -(-frame // k), f"frame {frame} moves latents {moved}"
        if "TemporalDecoder" in name:
            assert moved == [frame]


@pytest.mark.parametrize("name", TINY)
def test_latents_are_scaled_as_the_pipeline_does(name: str) -> None:
    model = tiny_autoencoder(name)
    pixels = VAE(model, {"sigma_data": 0.4})
    t = pixels.packing.frames(5)
    frames = noise(t)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    if name == "AutoencoderKLAllegro":
        model.enable_tiling()
        model.kernel = model.stride = (t, 32, 32)
    with torch.no_grad():
        if "TemporalDecoder" in name:
            raw = model.encode(video[0].transpose(0, 1)).latent_dist.mode().transpose(0, 1)[None]
        else:
            raw = model.encode(video).latent_dist.mode()
    config = model.config

    def by_channel(values: Any) -> Tensor:
        return torch.as_tensor(values).view(1, 4, 1, 1, 1)

    if "Wan" in name:
        expected = (raw - by_channel(config.latents_mean)) * (1.0 / by_channel(config.latents_std))
    elif "LTX" in name:
        model.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        model.latents_std.copy_(torch.tensor([0.9, 1.1, 1.2, 0.8]))
        pixels = VAE(model, {})
        scale = config.scaling_factor
        expected = (raw - by_channel(model.latents_mean)) * scale / by_channel(model.latents_std)
    elif "Mochi" in name:
        expected = (raw - by_channel(config.latents_mean)) * config.scaling_factor
        expected = expected / by_channel(config.latents_std)
    elif "Cosmos" in name:
        mean, std = (
            torch.tensor(values).view(1, 4, -1, 1, 1) for values in (config.latents_mean, config.latents_std)
        )
        mean, std = (x[:, :, [0, 1, 2, 2, 2]] for x in (mean, std))  # the last goes on
        expected = (raw - mean) * 0.4 / std
    else:
        assert config.scaling_factor != 1
        expected = raw * config.scaling_factor
    latents = pixels.encode(frames)
    torch.testing.assert_close(latents, expected[0].transpose(0, 1), rtol=1e-5, atol=1e-6)

    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        if "TemporalDecoder" in name:
            back = model.decode(raw[0].transpose(0, 1), num_frames=5).sample
        elif name == "AutoencoderKLAllegro":
            back = model.decode(raw).sample[0]
        elif name == "AutoencoderKLLTXVideo":
            back = model.decode(raw, torch.tensor([0.0])).sample[0].transpose(0, 1)
        else:
            back = model.decode(raw).sample[0].transpose(0, 1)
    torch.testing.assert_close(pixels.decode(latents), (back / 2 + 0.5).clamp(0, 1), rtol=1e-4, atol=1e-5)


def test_a_long_clip_is_decoded_in_chunks() -> None:
    pixels = tiny_pixels("AutoencoderKLTemporalDecoder")
    latents = torch.randn(CHUNK + 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures = pixels.decode(latents)
    assert torch.equal(pictures, torch.cat([pixels.decode(latents[:CHUNK]), pixels.decode(latents[CHUNK:])]))


def test_decoding_leaves_the_random_state_alone_and_repeats() -> None:
    pixels = tiny_pixels("AutoencoderKLLTXVideo")
    latents = pixels.encode(noise(5))
    state = torch.get_rng_state()
    first = pixels.decode(latents)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(pixels.decode(latents), first)


def test_pictures_of_another_size_than_they_come_back_in_are_refused() -> None:
    require_frame_size(tiny_pixels("AutoencoderKLWan"), noise(1, size=24), "roll out")
    with pytest.raises(
        V2WError, match=r"20 x 20 come back from the autoencoder as 16 x 16 \(try: multiples of 8\)"
    ):
        require_frame_size(tiny_pixels("AutoencoderKLWan"), noise(1, size=20), "roll out")
    with pytest.raises(V2WError, match="20 x 20 do not go through the autoencoder"):
        require_frame_size(tiny_pixels("AutoencoderKLHunyuanVideo15"), noise(1, size=20), "roll out")


def test_an_autoencoder_that_packs_otherwise_than_it_says_is_refused() -> None:
    pixels = tiny_pixels("AutoencoderKLWan", scale_factor_temporal=2)
    with pytest.raises(V2WError, match="5 video frames go with 2 latent frames, .* says 2 video frames"):
        pixels.encode(noise(5))


def test_what_cannot_be_served_is_refused_with_the_reason(tmp_path: Path) -> None:
    def refused(match: str, config: dict[str, Any]) -> None:
        (tmp_path / "vae").mkdir(exist_ok=True)
        (tmp_path / "vae/config.json").write_text(json.dumps(config))
        with pytest.raises(V2WError, match=match):
            open_vae(tmp_path)

    with pytest.raises(V2WError, match="there is no vae/config.json"):
        open_vae(tmp_path)
    refused("its class is AutoencoderVidTok: .* reaches", {"_class_name": "AutoencoderVidTok"})
    refused("its class is os.system", {"_class_name": "os.system"})
    tiny_autoencoder("AutoencoderKLWan", latents_std=[1.0] * 16).save_pretrained(tmp_path / "vae")
    with pytest.raises(V2WError, match="latents_std has 16 numbers for 4 channels"):
        open_vae(tmp_path)


def test_cosmos_takes_the_std_of_its_data_from_the_scheduler(tmp_path: Path) -> None:
    model = tiny_autoencoder("AutoencoderKLCosmos")
    model.save_pretrained(tmp_path / "vae")
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text('{"sigma_data": 0.25}')
    half, quarter = (p.encode(noise(9)) for p in (VAE(model, {}), open_vae(tmp_path)))
    torch.testing.assert_close(half / 2, quarter)


IN_CHUNKS = [
    "AutoencoderKLTemporalDecoder",
    "AutoencoderKLCogVideoX",
    "AutoencoderKLMagvit",
    "AutoencoderKLWan",
]
WHOLE = ["AutoencoderKLLTXVideo"]  # one of those that cannot be cut


@pytest.mark.parametrize("name", IN_CHUNKS + WHOLE)
@pytest.mark.parametrize("j", [1, 2, 5])
def test_block_by_block_decodes_to_the_same_pictures(name: str, j: int) -> None:
    """Bit for bit, whatever the blocks are, of several clips in turns; and what diffusers decodes of the whole clip."""
    pixels = tiny_pixels(name)
    latents = torch.randn(2, j, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    whole = pixels.decode(latents)
    for blocks in ([1] * j, [j], [1, j - 1]):
        found = torch.cat(list(pixels.decode_blocks(latents.split([b for b in blocks if b], 1))), 1)
        assert torch.equal(found, whole)
    seen = torch.cat(list(pixels.decode_blocks(latents.split(1, 1), seen=j - 1)), 1)
    assert torch.equal(seen, whole[:, pixels.packing.frames(j - 1) :])
    if name in ("AutoencoderKLCogVideoX", "AutoencoderKLMagvit", "AutoencoderKLWan") and j % 2:
        scaled = latents[:1] * pixels.std[:, :1].T[..., None, None] / pixels.factor
        scaled = scaled + pixels.mean[:, :1].T[..., None, None]
        with torch.no_grad():
            pictures = pixels.autoencoder.decode(scaled.transpose(1, 2)).sample.transpose(1, 2)
        torch.testing.assert_close(whole[:1], (pictures / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", IN_CHUNKS)
def test_pictures_come_before_the_last_latents_and_all_memory_is_one_chunks(name: str) -> None:
    pixels = tiny_pixels(name)
    asked = 0

    def blocks() -> Iterator[Tensor]:
        nonlocal asked
        while asked < 28:
            asked += 1
            yield torch.zeros(1, 1, 4, 2, 2)

    first, later = pixels.kind.chunks
    for number, pictures in enumerate(pixels.decode_blocks(blocks())):
        last = asked == 28
        assert last or asked == first + number * later
        assert last or pictures.shape[1] == pixels.packing.frames(asked) - pixels.packing.frames(
            max(asked - (later if number else first), 0)
        )


def test_pictures_of_one_frame_each_come_in_full_batches(tiny_base: Path) -> None:
    pixels = open_vae(tiny_base)
    latents = torch.randn(2, 70, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    shown = list(pixels.decode_blocks(latents.split(1, 1), seen=3))
    assert [pictures.shape[1] for pictures in shown] == [29, 32, 6]
    assert torch.equal(torch.cat(shown, 1), pixels.decode(latents, seen=3))
