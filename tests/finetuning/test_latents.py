import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from v2w_convert.data import open_dataset
from v2w_convert.data.actions import ActionSpace
from v2w_convert.errors import V2WError
from v2w_convert.finetuning import shards
from v2w_convert.finetuning.latents import LatentDataset, cached_latents, require_clips
from v2w_convert.progress import ProgressEvent, no_progress
from v2w_convert.world.temporal_compression import TemporalCompression
from v2w_convert.world.vae import open_vae

LENGTHS = (9, 3, 7, 12)  # of tiny_data
FRAMES = 6


@pytest.fixture
def cached(tiny_data: Path, tiny_converted: Path, tmp_path: Path) -> LatentDataset:
    return cached_latents(
        open_dataset(tiny_data), tiny_converted, tmp_path, open_vae(tiny_converted), FRAMES, no_progress
    )


def test_every_clip_is_a_piece_of_an_encoded_episode(
    cached: LatentDataset, tiny_data: Path, tiny_converted: Path
) -> None:
    vae = open_vae(tiny_converted)
    expected = []
    for episode in open_dataset(tiny_data).episodes():
        latents = vae.encode(episode.frames).half().float()
        actions = torch.from_numpy(episode.arriving_actions)
        starts = range(len(episode) - FRAMES + 1)
        expected += [(latents[s : s + FRAMES], actions[s : s + FRAMES]) for s in starts]
    assert len(cached) == len(expected) == sum(max(t - FRAMES + 1, 0) for t in LENGTHS)
    assert cached.frame_shape == (4, 8, 8)
    latents, actions = cached.clips(list(range(len(cached))))
    assert latents.dtype == actions.dtype == torch.float32
    assert torch.equal(latents, torch.stack([pair[0] for pair in expected]))
    assert torch.equal(actions, torch.stack([pair[1] for pair in expected]))


def test_spread_takes_clips_from_beginning_to_end(cached: LatentDataset) -> None:
    everything = cached.clips(list(range(len(cached))))[0]
    assert torch.equal(cached.clips(cached.spread(1000))[0], everything)
    few = cached.clips(cached.spread(3))[0]
    assert torch.equal(few, everything[[0, len(cached) // 3, 2 * len(cached) // 3]])


def test_statistics_are_those_of_the_actions_that_led_somewhere(
    cached: LatentDataset, tiny_data: Path
) -> None:
    actions = np.concatenate([episode.actions[:-1] for episode in open_dataset(tiny_data).episodes()]).astype(
        np.float64
    )
    found = cached.action_statistics(ActionSpace.continuous(["down", "right", "nothing"]))
    assert found.count == len(actions)
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(getattr(found, name), getattr(actions, name)(0))
    assert (found.std[2], found.varies()) == (0.0, [True, True, False])  # the last one never changes


def test_encoding_again_is_not_needed(tiny_data: Path, tiny_converted: Path, tmp_path: Path) -> None:
    vae, events = open_vae(tiny_converted), []

    def report(progress: ProgressEvent) -> None:
        events.append((progress.task, progress.done, progress.total))

    for _ in range(2):
        cached_latents(open_dataset(tiny_data), tiny_converted, tmp_path, vae, FRAMES, report)
    assert events == [("encode", number, 4) for number in (1, 2, 3, 4)]


def test_small_shards_hold_the_same_episodes(
    cached: LatentDataset,
    tiny_data: Path,
    tiny_converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 5000)
    small = cached_latents(
        open_dataset(tiny_data), tiny_converted, tmp_path / "b", open_vae(tiny_converted), FRAMES, no_progress
    )
    assert len(list((tmp_path / "b").glob("*/*.safetensors"))) == 2
    every = list(range(len(cached)))
    assert len(small) == len(cached)
    assert torch.equal(small.clips(every)[0], cached.clips(every)[0])


def test_another_autoencoder_has_latents_of_its_own(
    tiny_data: Path, tiny_converted: Path, tmp_path: Path
) -> None:
    other = tmp_path / "converted"
    shutil.copytree(tiny_converted, other)
    file = other / "vae/diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    a, b = (
        cached_latents(
            open_dataset(tiny_data), folder, tmp_path / "cache", open_vae(folder), FRAMES, no_progress
        )
        for folder in (tiny_converted, other)
    )
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert not torch.equal(a.clips([0])[0], b.clips([0])[0])


def test_a_data_set_that_breaks_off_leaves_nothing(
    tiny_data: Path, tiny_converted: Path, tmp_path: Path
) -> None:
    def interrupt(progress: ProgressEvent) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache = tmp_path / "cache"
        cached_latents(
            open_dataset(tiny_data), tiny_converted, cache, open_vae(tiny_converted), FRAMES, interrupt
        )
    assert list(tmp_path.iterdir()) == []


def test_data_that_does_not_fit_is_refused_by_its_description(tiny_data: Path) -> None:
    data = open_dataset(tiny_data)
    require_clips(data, 3, 12, TemporalCompression())
    with pytest.raises(
        V2WError, match=r"its actions have 3 numbers, the model takes 2 \(try: .*--action-dim 3"
    ):
        require_clips(data, 2, 6, TemporalCompression())
    with pytest.raises(V2WError, match="no episode has 13 frames, the longest has 12"):
        require_clips(data, 3, 13, TemporalCompression())


def test_data_without_a_list_of_its_episodes_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(tiny_data, copied)
    file = copied / "meta/episodes/chunk-000/file-000.parquet"
    for damage in (lambda: file.write_bytes(b"PAR1"), lambda: shutil.rmtree(copied / "meta/episodes")):
        damage()
        with pytest.raises(V2WError, match="meta/episodes"):
            require_clips(open_dataset(copied), 3, 6, TemporalCompression())
