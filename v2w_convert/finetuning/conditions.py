"""What each clip of a data set is given beside its frames and actions: encoded once, kept on disk, read clip by clip."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_convert.data import Dataset
from v2w_convert.encoders.episode import Kind, Sources, one_task, picture_conditions, prompt_conditions
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.cache import ahead, make_once
from v2w_convert.finetuning.latents import LatentDataset
from v2w_convert.finetuning.shards import (
    ShardWriter,
    Stored,
    episode_name,
    next_episode,
    open_shards,
    require,
)
from v2w_convert.plan.call import Conditions
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.processes import ALONE, Processes
from v2w_convert.progress import Pace, Progress, ProgressEvent
from v2w_convert.surgery.conditions import stored_conditions
from v2w_convert.surgery.manifest import CONDITIONS, Manifest
from v2w_convert.world.vae import VAE

ENCODERS = ("vae", "text_encoder", "tokenizer", "image_encoder", "feature_extractor", "image_processor")


@dataclass(frozen=True)
class Conditioned:
    """A converted model, and which conditions of an episode it is given.

    Attributes:
        folder: A converted folder.
        manifest: Its manifest.
        resolved: Its plan.
        sources: Which conditions are an episode's own.
    """

    folder: Path
    manifest: Manifest
    resolved: ResolvedPlan
    sources: Sources


class ConditionDataset:
    """The conditions of a `LatentDataset`'s clips, in a folder of shards.

    They hold for each different prompt p `p.name`, and for each episode i `i.name` with a row for every latent frame
    that a clip may begin with: what is made of that frame as the clip's picture, float16.
    """

    def __init__(self, folder: Path, clips: LatentDataset, model: Conditioned, prompts: list[str | None]):
        """Open what `encode` wrote.

        Args:
            folder: Where it is.
            clips: The clips.
            model: The model that they are for.
            prompts: Of each episode, as `require_tasks` gives them.

        Raises:
            V2WError: They are not what is written for these clips.
        """
        self.clips, self.sources = clips, model.sources
        self.conditions = model.resolved.call.conditions
        self.stored = stored_conditions(model.resolved, model.folder / CONDITIONS)
        self.prompts = prompts
        self._shards = open_shards(folder)
        require(folder, [fault for name in self.sources.kinds for fault in self._faults(name)])

    def _faults(self, name: str) -> list[str]:
        """In what the files' entries of a condition are not what is written for it."""
        condition, (_, h, w) = self.conditions[name], self.clips.frame_shape
        kind = self.sources.kinds[name]
        if kind == "text":
            wanted: dict[str, int | None] = {
                prompt_key(prompt, name): None for prompt in self.prompts if prompt is not None
            }
        else:
            wanted = {f"{episode}.{name}": len(starts) for episode, starts in self.clips.starts() if starts}

        def fits(stored: Stored, rows: int | None) -> bool:
            shape, given = stored.shape, stored.shape[:1] if rows is None else (rows,)
            own = shape if rows is None else shape[1:]
            if kind == "image_latents" and len(own) == len(condition.sizes) + 1:
                own = own[1:] if 1 <= own[0] <= self.clips.frames else ()
            return shape[:1] == given and condition.accepts(own, h, w) and stored.dtype != "C64"

        return [
            f"{key} is {self._shards[key].shape if key in self._shards else 'missing'}"
            for key, rows in wanted.items()
            if key not in self._shards or not fits(self._shards[key], rows)
        ]

    def of_clips(
        self,
        chosen: list[int],
        dropped: Mapping[Kind, list[bool]] | None = None,
    ) -> Conditions:
        """The conditions (b …) of the chosen clips.

        Args:
            chosen: Numbers of clips.
            dropped: For each kind whether each clip gets what the model has stored instead; None: none does.
        """
        found = [self._of_clip(index) for index in chosen]
        for kind, decisions in (dropped or {}).items():
            for own, drop in zip(found, decisions, strict=True):
                if drop:
                    own |= {name: self._stored(name, own[name]) for name in self.sources.names(kind)}
        return {name: _stack([own[name] for own in found]) for name in self.sources.kinds}

    def require_alike(self, dropout: bool) -> None:
        """Check that prompts and the stored one, if clips of one batch may have either, have as many tokens.

        Raises:
            V2WError: They have not.
        """
        said = next((prompt for prompt in self.prompts if prompt is not None), None)
        if said is None or not (dropout or None in self.prompts):
            return
        for name in self.sources.names("text"):
            key = prompt_key(said, name)
            own, stored = list(self._shards[key].shape), list(self.stored[name].shape)
            if own != stored:
                raise V2WError(
                    "train with tasks and with the stored prompt",
                    f"{name} of a task is {own}, the stored one {stored}",
                    "no --text-dropout, and a task for every episode",
                )

    def _of_clip(self, index: int) -> Conditions:
        episode, start = self.clips.locate(index)
        found: Conditions = {}
        for name, kind in self.sources.kinds.items():
            if kind != "text":
                key = f"{episode}.{name}"
                found[name] = self._shards[key][start // self.clips.stride].float()
            elif (prompt := self.prompts[int(episode)]) is None:
                found[name] = self.stored[name]
            else:
                key = prompt_key(prompt, name)
                found[name] = self._shards[key][:]
        return found

    def _stored(self, name: str, own: Tensor) -> Tensor:
        """What is given instead of a clip's own: as it has it, (T c h w), of a picture for every frame."""
        if name in self.stored:
            return self.stored[name]
        return self.conditions[name].null(*own.shape[-2:]).expand_as(own)


@dataclass(frozen=True)
class Clips:
    """A data set as it is trained on.

    Attributes:
        latents: The clips' frames and actions.
        conditions: Their conditions; None where all are those that the model has stored.
        name: The data set's, for errors.
    """

    latents: LatentDataset
    conditions: ConditionDataset | None = None
    name: str = "the data"

    def place(self, index: int) -> str:
        """Where clip `index` is from, in words."""
        episode, start = self.latents.locate(index)
        last = start + self.latents.frames - 1
        return f"{self.name}, episode {int(episode)}, latent frames {start} to {last}"

    def read(self, chosen: list[int]) -> tuple[Tensor, Tensor, Conditions]:
        """Latents, actions and conditions of the chosen clips."""
        return *self.latents.clips(chosen), self.conditions_of(chosen)

    def conditions_of(
        self, chosen: list[int], dropped: Mapping[Kind, list[bool]] | None = None
    ) -> Conditions:
        """As `ConditionDataset.of_clips`."""
        return self.conditions.of_clips(chosen, dropped) if self.conditions else {}


def prompt_key(prompt: str, name: str) -> str:
    """The name in the shards of a prompt's condition."""
    return f"prompt-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}.{name}"


def require_tasks(data: Dataset, sources: Sources) -> list[str | None]:
    """The prompt of each episode; None where there is none.

    Raises:
        V2WError: An episode has several.
    """
    if not sources.names("text"):
        return [None] * len(data)
    asked = f"use the tasks of {data.path} as prompts"
    return [one_task(tasks, f"episode {number}", asked) for number, tasks in enumerate(data.tasks)]


def cached_conditions(
    data: Dataset,
    clips: LatentDataset,
    model: Conditioned,
    cache: Path,
    vae: VAE,
    device: torch.device,
    progress: Progress,
    processes: Processes = ALONE,
) -> ConditionDataset | None:
    """Encode the conditions of `clips`, or open what an earlier run encoded; None: no condition is a clip's own.

    Args:
        data: The data set that the clips are of.
        clips: Its latents.
        model: The model.
        cache: A folder with a subfolder for each combination of data, encoders and clips, named by their content,
            as `make_once` makes it. Several runs may share it.
        vae: The model's autoencoder.
        device: Where prompts and pictures are encoded.
        progress: Called after each episode.
        processes: Those that read what the first of them encodes. All call this.

    Raises:
        V2WError: The data cannot be read or encoded.
    """
    if not model.sources.kinds:
        return None
    prompts = require_tasks(data, model.sources)
    encoders = {path: digest for path, digest in model.manifest.result.items() if path.startswith(ENCODERS)}
    content = [
        model.manifest.version,
        data.fingerprint(),
        encoders,
        model.manifest.plan["call"],
        model.sources.record(),
        clips.frames,
        clips.stride,
    ]
    folder = cache / hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()[:16]

    def encode(stage: Path) -> None:
        writer, there = ShardWriter(stage), open_shards(stage)
        names = model.sources.names("text")
        said = [
            p for p in prompts if p is not None and any(prompt_key(p, name) not in there for name in names)
        ]
        encode_prompts(said, model, writer, device)
        encode_pictures(data, clips, model, writer, vae, device, progress)
        writer.finish()

    processes.of_first(lambda: make_once(folder, encode, progress))
    return ConditionDataset(folder, clips, model, prompts)


def encode_prompts(said: list[str], model: Conditioned, writer: ShardWriter, device: torch.device) -> None:
    """Add each different prompt's conditions.

    Raises:
        V2WError: A prompt cannot be encoded, or its tokens are not as many as another's.
    """
    if not said:
        return
    for prompt, found in prompt_conditions(model.folder, model.resolved, said, device).items():
        writer.add({prompt_key(prompt, name): value for name, value in found.items()})


def encode_pictures(
    data: Dataset,
    clips: LatentDataset,
    model: Conditioned,
    writer: ShardWriter,
    vae: VAE,
    device: torch.device,
    progress: Progress,
) -> None:
    """Add for each episode the conditions of every frame that a clip may begin with, float16.

    A latent frame that holds several video frames begins with the first of them.

    Raises:
        V2WError: A picture cannot be encoded, or what is made of it is not finite in float16.
    """
    names = model.sources.names("image_embeds", "image_latents")
    if not names:
        return
    total = len(data)
    done = next_episode(writer.folder)
    pace = Pace(done, total)
    starts = dict(clips.starts())
    order: list[tuple[str, int]] = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for number, episode in enumerate(ahead(data.episodes_from(done)), done):
            name = episode_name(number)
            rows = starts.get(name, range(0))
            order.append((name, len(rows)))
            for start in rows:
                yield episode.frames[vae.packing.frames(start)]
            progress(
                ProgressEvent("encode", number + 1, total, "first frames", pace.seconds_left(number + 1))
            )

    made: list[Conditions] = []
    for found in picture_conditions(
        model.folder, model.resolved, model.sources, vae, pictures(), clips.frames, device
    ):
        name, count = order[-1]
        made.append(found)
        if len(made) == count:
            stacked = {key: _stack([one[key] for one in made]).half() for key in names}
            if not all(bool(torch.isfinite(value).all()) for value in stacked.values()):
                raise V2WError(
                    f"finetune on {data.path}", f"episode {name} has pictures that are not finite in float16"
                )
            writer.add({f"{name}.{key}": value for key, value in stacked.items()})
            made = []


def _stack(values: list[Tensor]) -> Tensor:
    """Values of one shape; of pictures for every frame (T c h w), the last is repeated where another has more."""
    longest = max(len(value) if value.ndim == 4 else 0 for value in values)
    return torch.stack(
        [
            value
            if value.ndim != 4 or len(value) == longest
            else torch.cat([value, value[-1:].expand(longest - len(value), -1, -1, -1)])
            for value in values
        ]
    ).contiguous()
