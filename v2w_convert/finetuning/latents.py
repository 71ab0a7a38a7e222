"""A data set's frames as latents: encoded once, kept on disk, read clip by clip."""

import hashlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from v2w_convert.checkpoint.output import sha256, staging_folder
from v2w_convert.data import Dataset
from v2w_convert.errors import V2WError
from v2w_convert.progress import Pace, Progress, ProgressEvent
from v2w_convert.world.temporal_compression import TemporalCompression, require_actions
from v2w_convert.world.vae import VAE

SHARD_BYTES = 256 * 2**20


class LatentDataset:
    """Encoded episodes in a folder of shards.

    Clips are read from the files, so that memory does not grow with the data. A shard holds for each of its
    episodes i `i.latents` (t c h w) float16 and `i.actions` (t a) float32: the actions that led to each
    latent frame. Where the autoencoder has a temporal compression of k, a is k times that of the data.
    """

    def __init__(self, folder: Path, frames: int):
        """Open all shards.

        Args:
            folder: What `encode` wrote.
            frames: Latent frames per clip, t. A clip begins at any latent frame with t - 1 more after it.
        """
        self.frames = frames
        self.episodes: list[tuple[Any, str, int]] = []  # open shard, name, length
        for file in sorted(folder.glob("*.safetensors")):
            shard: Any = safe_open(file, framework="pt")
            names = sorted(key.removesuffix(".latents") for key in shard.keys() if key.endswith(".latents"))
            for name in names:
                length, *self._frame = shard.get_slice(f"{name}.latents").get_shape()
                self.episodes.append((shard, name, length))
        self._ends = list(accumulate(max(length - frames + 1, 0) for _, _, length in self.episodes))

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Shape (c, h, w) of a latent frame."""
        c, h, w = self._frame
        return c, h, w

    def __len__(self) -> int:
        """How many clips there are."""
        return self._ends[-1]

    def clips(self, chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Read the chosen clips.

        Returns:
            Latents (b t c h w) and actions (b t a), both float32.
        """
        pairs = [self._clip(index) for index in chosen]
        return torch.stack([pair[0] for pair in pairs]).float(), torch.stack([pair[1] for pair in pairs])

    def spread(self, count: int) -> tuple[Tensor, Tensor]:
        """Read `count` clips, or all if there are fewer, that lie evenly over the data. Returns as `clips`."""
        count = min(count, len(self))
        return self.clips([i * len(self) // count for i in range(count)])

    def action_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (a,) float64, of all actions that led to a frame.

        The standard deviation of a number that never changes is given as 1.
        """
        actions = [shard.get_tensor(f"{name}.actions")[1:].double() for shard, name, _ in self.episodes]
        joined = torch.cat(actions)
        changes = joined.amin(0) < joined.amax(0)
        return joined.mean(0), torch.where(changes, joined.std(0, unbiased=False), 1.0)

    def _clip(self, index: int) -> tuple[Tensor, Tensor]:
        """Latents and actions of clip `index`, counted over all episodes."""
        number = bisect_right(self._ends, index)
        shard, name, _ = self.episodes[number]
        start = index - (self._ends[number - 1] if number else 0)
        stop = start + self.frames
        return shard.get_slice(f"{name}.latents")[start:stop], shard.get_slice(f"{name}.actions")[start:stop]


def require_clips(data: Dataset, action_dim: int, frames: int, compression: TemporalCompression) -> None:
    """Check by the data set's description alone that clips for this model can be cut from it.

    Args:
        data: The data set.
        action_dim: Numbers per action that the model takes.
        frames: Latent frames per clip.
        compression: The autoencoder's temporal compression.

    Raises:
        V2WError: Actions are of another length, or every episode is too short.
    """
    asked = f"finetune on {data.path}"
    require_actions(asked, data.action_dim, action_dim, compression, "convert with")
    longest = max(data.lengths, default=0)
    if longest < compression.frames(frames):
        found = f"no episode has {compression.frames(frames)} frames, the longest has {longest}"
        if compression.k > 1:
            found += f" (clips are of {frames} latent frames, {compression})"
        raise V2WError(asked, found, "shorter clips")


def cached_latents(
    data: Dataset, converted: Path, cache: Path, vae: VAE, frames: int, progress: Progress
) -> LatentDataset:
    """Encode `data`, or open what an earlier run encoded.

    Args:
        data: The data set.
        converted: The converted folder that `vae` belongs to.
        cache: A folder with a subfolder for each combination of data and autoencoder, named by the content
            of both. It appears whole or not at all.
        vae: The autoencoder of `converted`.
        frames: Latent frames per clip.
        progress: Called after each episode that is encoded.

    Raises:
        V2WError: The data cannot be read or encoded.
    """
    weights = [converted / "vae/config.json", *sorted((converted / "vae").glob("*.safetensors"))]
    content = " ".join([data.fingerprint(), *map(sha256, weights)])
    folder = cache / hashlib.sha256(content.encode()).hexdigest()[:16]
    if not folder.exists():
        with staging_folder(folder) as stage:
            encode(data, stage, vae, progress)
    return LatentDataset(folder, frames)


def encode(data: Dataset, folder: Path, vae: VAE, progress: Progress) -> None:
    """Write the shards of a `LatentDataset`, with one shard and one episode in memory at a time.

    Raises:
        V2WError: An episode cannot be read or encoded, or its latents are not finite in float16.
    """
    total = len(data)
    pace = Pace(0, total)
    shard: dict[str, Tensor] = {}
    written = 0

    def write() -> None:
        nonlocal shard, written
        save_file(shard, folder / f"{written:05d}.safetensors")
        shard, written = {}, written + 1

    for number, episode in enumerate(data.episodes()):
        # Video frames left over at an episode's end fill no latent frame; a short episode may fill none at all.
        if t := vae.packing.frames(vae.packing.latents(len(episode))):
            latents = _encode_episode(
                vae, episode.frames[:t], f"finetune on {data.path}", f"episode {number}"
            )
            shard[f"{number:08d}.latents"] = latents
            arriving = torch.from_numpy(episode.arriving_actions[:t])
            shard[f"{number:08d}.actions"] = vae.packing.actions(arriving).contiguous()
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            write()
        progress(ProgressEvent("encode", number + 1, total, seconds_left=pace.seconds_left(number + 1)))
    if shard:
        write()


def _encode_episode(vae: VAE, frames: NDArray[np.uint8], asked: str, name: str) -> Tensor:
    """Latents (t c h w) float16 of an episode, which is encoded as a whole."""
    try:
        latents = vae.encode(frames).half().cpu().contiguous()
    except torch.OutOfMemoryError:
        found = f"not enough memory to encode the {len(frames)} frames of {name} as a whole"
        raise V2WError(asked, found, "shorter episodes, smaller frames or another --device") from None
    if not bool(torch.isfinite(latents).all()):
        raise V2WError(asked, f"{name} has latents that are not finite in float16")
    return latents
