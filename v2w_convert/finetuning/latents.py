"""A data set's frames as latents: encoded once, kept on disk, read clip by clip."""

import hashlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from v2w_convert.checkpoint.output import sha256, staging_folder
from v2w_convert.data import lerobot
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.settings import Pace, Progress, ProgressCallback
from v2w_convert.world.temporal_compression import TemporalCompression, require_actions
from v2w_convert.world.vae import VAE

SHARD_BYTES = 256 * 2**20


class LatentDataset:
    """Encoded episodes in a folder of shards. Clips are read from the files, so memory does not grow with the data.

    A shard holds for every episode i of its own `i.latents` (t c h w) float16 and `i.actions` (t a) float32,
    the actions that led to each latent frame: a is k times that of the data where k video frames make one.

    frames  t of a clip, in latent frames; a clip begins at any of an episode that has t - 1 more
    """

    def __init__(self, folder: Path, frames: int):
        self.frames = frames
        self.episodes: list[tuple[Any, str, int]] = []  # open shard, name, length
        for file in sorted(folder.glob("*.safetensors")):
            shard = safe_open(file, framework="pt")
            names = sorted(key.removesuffix(".latents") for key in shard.keys() if key.endswith(".latents"))
            for name in names:
                length, *self._frame = shard.get_slice(f"{name}.latents").get_shape()
                self.episodes.append((shard, name, length))
        self._ends = list(accumulate(max(length - frames + 1, 0) for _, _, length in self.episodes))

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """c h w of a frame."""
        c, h, w = self._frame
        return c, h, w

    def __len__(self) -> int:
        """How many clips there are."""
        return self._ends[-1]

    def clips(self, chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Latents (b t c h w) and actions (b t a), float32, of the chosen clips."""
        pairs = [self._clip(index) for index in chosen]
        return torch.stack([pair[0] for pair in pairs]).float(), torch.stack([pair[1] for pair in pairs])

    def spread(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` clips (all, if there are fewer) that lie evenly over the data."""
        count = min(count, len(self))
        return self.clips([i * len(self) // count for i in range(count)])

    def action_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (a,) float64 of all actions that led somewhere; deviation 1 where one never changes."""
        actions = [shard.get_tensor(f"{name}.actions")[1:].double() for shard, name, _ in self.episodes]
        joined = torch.cat(actions)
        changes = joined.amin(0) < joined.amax(0)
        return joined.mean(0), torch.where(changes, joined.std(0, unbiased=False), 1.0)

    def _clip(self, index: int) -> tuple[Tensor, Tensor]:
        number = bisect_right(self._ends, index)
        shard, name, _ = self.episodes[number]
        start = index - (self._ends[number - 1] if number else 0)
        stop = start + self.frames
        return shard.get_slice(f"{name}.latents")[start:stop], shard.get_slice(f"{name}.actions")[start:stop]


def fingerprint(data: Path, camera: str | None) -> str:
    """SHA-256 of what tells a data set from another: all of meta/ and data/, names and sizes of the videos."""
    digest = hashlib.sha256(f"{camera}\n".encode())
    for file in sorted(path for path in data.rglob("*") if path.is_file()):
        name = file.relative_to(data)
        if name.parts[0] in ("meta", "data"):
            digest.update(f"{name} {sha256(file)}\n".encode())
        elif name.parts[0] == "videos":
            digest.update(f"{name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def check_data(data: Path, action_dim: int, frames: int, packing: TemporalCompression) -> None:
    """Raises V2WError, from the data set's own description, if no clip can be cut from it for this model.

    frames  of a clip, in latent frames
    """
    asked = f"finetune on {data}"
    a = lerobot.read_info(data)["features"]["action"]["shape"][0]
    require_actions(asked, a, action_dim, packing, "convert with")
    try:
        lengths = pq.ParquetDataset(data / "meta/episodes").read(columns=["length"])["length"].to_pylist()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise V2WError(asked, f"its meta/episodes cannot be read ({error})") from None
    longest = max(lengths, default=0)
    if longest < packing.frames(frames):
        found = f"no episode has {packing.frames(frames)} frames, the longest has {longest}"
        if packing.k > 1:
            found += f" (clips are of {frames} latent frames, {packing})"
        raise V2WError(asked, found, "shorter clips")


def encoded(
    data: Path,
    converted: Path,
    cache: Path,
    pixels: VAE,
    camera: str | None,
    frames: int,
    report: ProgressCallback,
) -> LatentDataset:
    """The latents of `data` by the autoencoder `pixels` of `converted`, from a folder in `cache` if it is there.

    The folder's name is made of the data's and the autoencoder's content, so no other latents are taken for them.
    It is written whole or not at all. Raises V2WError if the data cannot be read or encoded.
    """
    weights = [converted / "vae/config.json", *sorted((converted / "vae").glob("*.safetensors"))]
    key = hashlib.sha256(" ".join([fingerprint(data, camera), *map(sha256, weights)]).encode()).hexdigest()[
        :16
    ]
    if not (cache / key).exists():
        with staging_folder(cache / key) as stage:
            encode(data, stage, pixels, camera, report)
    return LatentDataset(cache / key, frames)


def encode(data: Path, folder: Path, pixels: VAE, camera: str | None, report: ProgressCallback) -> None:
    """Write the shards of `Latents` to `folder`, holding one shard and one episode at a time."""
    total = lerobot.read_info(data)["total_episodes"]
    pace = Pace(0, total)
    shard: dict[str, Tensor] = {}
    written = 0

    def write() -> None:
        nonlocal shard, written
        save_file(shard, folder / f"{written:05d}.safetensors")
        shard, written = {}, written + 1

    for number, episode in enumerate(lerobot.read(data, camera)):
        # What is left over at an episode's end makes no latent frame; a short one may make none at all.
        if t := pixels.packing.frames(pixels.packing.latents(len(episode))):
            latents = _encoded(pixels, episode.frames[:t], f"finetune on {data}", f"episode {number}")
            shard[f"{number:08d}.latents"] = latents
            arriving = torch.from_numpy(episode.arriving_actions[:t])
            shard[f"{number:08d}.actions"] = pixels.packing.actions(arriving).contiguous()
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            write()
        report(Progress("encode", number + 1, total, None, pace.seconds_left(number + 1)))
    if shard:
        write()


def _encoded(pixels: VAE, frames: np.ndarray, asked: str, name: str) -> Tensor:
    """Latents (t c h w) float16 of an episode, which is encoded in one go."""
    try:
        latents = pixels.encode(frames).half().cpu().contiguous()
    except torch.OutOfMemoryError:
        found = f"no room to encode the {len(frames)} pictures of {name} in one go"
        raise V2WError(asked, found, "shorter episodes, smaller pictures or another --device") from None
    if not bool(torch.isfinite(latents).all()):
        raise V2WError(asked, f"{name} has latents that are not finite in float16")
    return latents
