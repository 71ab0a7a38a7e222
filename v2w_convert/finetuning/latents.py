"""A data set's frames as latents: encoded once, kept on disk, read clip by clip."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.checkpoint.output import sha256
from v2w_convert.data import Dataset, Episode
from v2w_convert.data.actions import ActionSpace, recognised
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.cache import ahead, make_once
from v2w_convert.finetuning.encoder import Encoder
from v2w_convert.finetuning.room import require_room
from v2w_convert.finetuning.shards import (
    Stored,
    cut_into_shards,
    episode_name,
    open_shards,
    require,
    shard_name,
    shards_there,
    write_tensors,
)
from v2w_convert.new_file import new_file
from v2w_convert.processes import ALONE, Processes
from v2w_convert.progress import Pace, Progress, ProgressEvent
from v2w_convert.surgery.action_statistics import ActionStatistics, RecordedPart
from v2w_convert.world.temporal_compression import TemporalCompression, require_actions
from v2w_convert.world.vae import VAE


class LatentDataset:
    """Encoded episodes in a folder of shards.

    Clips are read from the files, so that memory does not grow with the data. A shard holds for each of its
    episodes i `i.latents` (t c h w) float16 and `i.actions` (t a) float32: the actions that led to each
    latent frame. Where the autoencoder has a temporal compression of k, a is k times that of the data.
    """

    def __init__(self, folder: Path, frames: int, stride: int = 1):
        """Open all shards.

        Args:
            folder: What `encode` wrote.
            frames: Latent frames per clip, t.
            stride: A clip begins at every stride-th latent frame of an episode that has t - 1 more after it.

        Raises:
            V2WError: They are not what `encode` writes.
        """
        self.folder, self.frames, self.stride = folder, frames, stride
        self.episodes: list[tuple[str, Stored, Stored]] = []  # name, latents, actions
        shards = open_shards(folder)
        faults = []
        for name in sorted(key.removesuffix(".latents") for key in shards if key.endswith(".latents")):
            latents, actions = shards[f"{name}.latents"], shards.get(f"{name}.actions")
            if actions is None or not _fit(latents, actions):
                faults.append(f"{name}: its latents and actions do not fit together")
            else:
                self.episodes.append((name, latents, actions))
        shapes = {(latents.shape[1:], actions.shape[1:]) for _, latents, actions in self.episodes}
        if len(shapes) > 1:
            faults.append("its episodes are of different shapes")
        if not shapes:
            faults.append("it has no episode")
        require(folder, faults)
        self._ends = list(accumulate(len(starts) for _, starts in self.starts()))

    def require_of(self, lengths: dict[str, int], frame_shape: tuple[int, ...], action_dim: int) -> None:
        """Check that these are the latents of some data.

        Args:
            lengths: Latent frames of each of its episodes, by name.
            frame_shape: (c, h, w) of its latents.
            action_dim: Numbers in an action.

        Raises:
            V2WError: They are not.
        """
        found = {name: latents.shape[0] for name, latents, _ in self.episodes}
        faults = [] if found == lengths else ["its episodes are not those of the data"]
        if self.frame_shape != tuple(frame_shape):
            faults.append(f"its latents are {self.frame_shape}, the autoencoder gives {tuple(frame_shape)}")
        if (a := self.episodes[0][2].shape[1]) != action_dim:
            faults.append(f"its actions have {a} numbers, the model takes {action_dim}")
        require(self.folder, faults)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Shape (c, h, w) of a latent frame."""
        c, h, w = self.episodes[0][1].shape[1:]
        return c, h, w

    def __len__(self) -> int:
        """How many clips there are."""
        return self._ends[-1]

    def starts(self) -> Iterator[tuple[str, range]]:
        """Each episode's name, and the latent frames that clips begin with."""
        for name, latents, _ in self.episodes:
            yield name, range(0, max(latents.shape[0] - self.frames + 1, 0), self.stride)

    def locate(self, index: int) -> tuple[str, int]:
        """Name of the episode that clip `index` is cut from, and the latent frame that it begins with."""
        number = bisect_right(self._ends, index)
        before = self._ends[number - 1] if number else 0
        return self.episodes[number][0], (index - before) * self.stride

    def clips(self, chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Read the chosen clips.

        Returns:
            Latents (b t c h w) and actions (b t a), both float32.
        """
        pairs = [self._clip(index) for index in chosen]
        return torch.stack([pair[0] for pair in pairs]).float(), torch.stack([pair[1] for pair in pairs])

    def spread(self, count: int) -> list[int]:
        """Numbers of `count` clips, or of all if there are fewer, that lie evenly over the data."""
        count = min(count, len(self))
        return [i * len(self) // count for i in range(count)]

    def action_statistics(self, space: ActionSpace) -> ActionStatistics:
        """Statistics of all actions that led to a frame, in float64.

        Args:
            space: What the data declares an action to be.
        """
        actions = [actions[1:].double() for _, _, actions in self.episodes]
        joined = torch.cat(actions)
        low, high = joined.amin(0), joined.amax(0)
        std = torch.where(low < high, joined.std(0, unbiased=False), 0.0)  # of one value exactly 0
        found = recognised(space, joined.unflatten(1, (-1, space.dim)).flatten(0, 1).numpy())
        return ActionStatistics(
            len(joined),
            joined.mean(0).tolist(),
            std.tolist(),
            low.tolist(),
            high.tolist(),
            [RecordedPart(part.name, part.kind, list(part.labels)) for part in found.parts],
        )

    def _clip(self, index: int) -> tuple[Tensor, Tensor]:
        """Latents and actions of clip `index`, counted over all episodes."""
        _, latents, actions = self.episodes[bisect_right(self._ends, index)]
        _, start = self.locate(index)
        return latents[start : start + self.frames], actions[start : start + self.frames]


def _fit(latents: Stored, actions: Stored) -> bool:
    """Whether they are (t c h w) float16 and (t a) float32, and nothing is empty."""
    return (
        (latents.dtype, actions.dtype) == ("F16", "F32")
        and (len(latents.shape), len(actions.shape)) == (4, 2)
        and latents.shape[0] == actions.shape[0]
        and 0 not in (*latents.shape, *actions.shape)
    )


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
    data: Dataset,
    converted: Path,
    cache: Path,
    vae: VAE,
    frames: int,
    progress: Progress,
    stride: int = 1,
    processes: Processes = ALONE,
) -> LatentDataset:
    """Encode `data`, or open what an earlier run encoded.

    Args:
        data: The data set.
        converted: The converted folder that `vae` belongs to.
        cache: A folder with a subfolder for each combination of data and autoencoder, named by the content
            of both, as `make_once` makes it. Several runs may share it.
        vae: The autoencoder of `converted`.
        frames: Latent frames per clip.
        progress: Called after each episode that is encoded.
        stride: Latent frames from one clip's beginning to the next one's.
        processes: Those that share the work. All call this.

    Raises:
        V2WError: The data cannot be read or encoded, or what is there is not made of it.
    """
    weights = [converted / "vae/config.json", *sorted((converted / "vae").glob("*.safetensors"))]
    content = " ".join([data.fingerprint(), *map(sha256, weights)])
    folder = cache / hashlib.sha256(content.encode()).hexdigest()[:16]
    shape = tuple(vae.encode(data.first().frames[: vae.packing.frames(1)]).shape[1:])
    make_once(folder, lambda stage: encode(data, stage, vae, shape, progress, processes), progress, processes)
    clips = LatentDataset(folder, frames, stride)
    counts = {episode_name(i): t for i, t in enumerate(latent_counts(data, vae)) if t}
    clips.require_of(counts, shape, vae.packing.k * data.action_dim)
    return clips


def latent_counts(data: Dataset, vae: VAE) -> list[int]:
    """Latent frames of each episode. Video frames left over at its end fill none; a short one may fill none at all."""
    counts = map(vae.packing.latents, data.lengths)
    return [t if vae.packing.frames(t) else 0 for t in counts]


def encode(
    data: Dataset,
    folder: Path,
    vae: VAE,
    shape: tuple[int, ...],
    progress: Progress,
    processes: Processes = ALONE,
) -> None:
    """Write this process's share of the shards of a `LatentDataset` that are not there.

    Which episodes a shard holds does not depend on the processes. One shard and three episodes are in memory at a time.

    Args:
        data: The data set.
        folder: For the shards.
        vae: The autoencoder.
        shape: (c, h, w) of a latent frame.
        progress: Called after each episode, with how many of this process's are done.
        processes: Those that share the work. All call this.

    Raises:
        V2WError: An episode cannot be read or encoded, its latents are not finite in float16, the disk has no room, or
            other shards are there.
    """
    counts = latent_counts(data, vae)
    frame_bytes = 2 * prod(shape) + 4 * vae.packing.k * data.action_dim
    shards = cut_into_shards([t * frame_bytes for t in counts])
    there = shards_there(folder, [_tensors_of([i for i in episodes if counts[i]]) for episodes in shards])
    missing = [number for number in range(len(shards)) if number not in there]
    if processes.first:
        size = frame_bytes * sum(counts[i] for number in missing for i in shards[number])
        require_room(folder, size, f"encode {data.path}", "a --cache on another disk")
    own = missing[processes.share(len(missing))]
    done = sum(len(shards[number]) for number in there)
    total = done + sum(len(shards[number]) for number in own)
    pace, encoder = Pace(done, total), Encoder(vae, f"finetune on {data.path}")
    last = {shards[number][-1]: number for number in own}
    shard: dict[str, Tensor] = {}
    for number, episode in ahead(episodes_of(data, [shards[each] for each in own])):
        if counts[number]:
            t = vae.packing.frames(counts[number])
            arriving = torch.from_numpy(episode.arriving_actions[:t])
            tensors = encoder.encode(episode.frames[:t], number), vae.packing.actions(arriving).contiguous()
            shard |= dict(zip(_tensors_of([number]), tensors, strict=True))
        if number in last:
            with new_file(folder / shard_name(last[number])) as file:
                write_tensors(file, shard)
            shard = {}
        done += 1
        progress(ProgressEvent("encode", done, total, seconds_left=pace.seconds_left(done)))


def episodes_of(data: Dataset, ranges: Sequence[range]) -> Iterator[tuple[int, Episode]]:
    """Decode these episodes, which come in order; ranges that follow each other in one pass. Raises as `Dataset.episodes`."""
    while ranges:
        count = 1
        while count < len(ranges) and ranges[count].start == ranges[count - 1].stop:
            count += 1
        first = ranges[0].start
        yield from zip(range(first, ranges[count - 1].stop), data.episodes_from(first), strict=False)
        ranges = ranges[count:]


def _tensors_of(episodes: Iterable[int]) -> list[str]:
    """What the tensors of these episodes are called."""
    return [f"{episode_name(number)}.{what}" for number in episodes for what in ("latents", "actions")]
