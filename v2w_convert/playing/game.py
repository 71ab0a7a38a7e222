"""A world model opened for play: it begins visits, and makes the next pictures of several at once."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from v2w_convert.data.starts import open_starts
from v2w_convert.device import resolve_device, resolve_dtype
from v2w_convert.encoders.episode import picture_conditions
from v2w_convert.encoders.prompt import encode_prompts, prompt_obstacle
from v2w_convert.engines.open import open_engine
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.evaluation.rollout_frames import check_sampling, history_length, sampling_of
from v2w_convert.noise import Noise
from v2w_convert.plan.call import Conditions
from v2w_convert.playing.controls import Controls, controls_of
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.playing.starts import Start, read_starts
from v2w_convert.progress import Progress, ProgressEvent
from v2w_convert.surgery.conditions import picture_frames
from v2w_convert.surgery.load import open_converted
from v2w_convert.world.rollout import Sampling, Stream, StreamingModel, start_stream
from v2w_convert.world.temporal_compression import require_actions
from v2w_convert.world.together import can_step_together, step_together
from v2w_convert.world.vae import VAE, as_uint8, open_vae, require_decodable, require_frame_size

MAX_STEPS = 50  # of the slider
LOSSLESS = 192 * 192  # pixels up to which pictures are sent as PNG
QUALITY = 90  # of JPEG, above
PROMPTS_KEPT = 64

Frame = NDArray[np.uint8]
"""(h w 3)"""


@dataclass(frozen=True)
class Moment:
    """Where a visitor is in the world. It never changes: to keep one is to be able to come back.

    Attributes:
        stream: What was seen and done so far.
        decoding: What the autoencoder needs of the frames before.
        pictures: What was shown last, as files.
    """

    stream: Stream
    decoding: Any
    pictures: list[bytes]

    @property
    def shapes(self) -> tuple[tuple[str, torch.Size], ...]:
        """Of its conditions, with their names: streams in which they differ cannot be stepped together."""
        return tuple(sorted((name, value.shape) for name, value in self.stream.conditions.items()))

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        return self.stream.past.nbytes + _bytes(self.decoding) + sum(map(len, self.pictures)) + 8192


@dataclass
class Game:
    """The model and all that a visit needs of it. For one thread.

    Attributes:
        name: Of the world.
        data: Name of the data set of the starts; empty for those that are kept with the model.
        fps: The data's frames a second.
        world: The model.
        vae: Its autoencoder.
        starts: Where a visit can begin.
        conditions: Of each start (n …).
        controls: What a visitor can do.
        sampling: How frames are made at first.
        steps: The numbers of denoising steps that the noise schedule can take.
        trained: Whether actions were trained: before, they have no effect.
        picture_conditions: Those of the conditions that are made of the first frame, unbatched.
        prompt_conditions: Those of the conditions that are made of a prompt, unbatched; None: it cannot be encoded here.
        shortest: Video frames that a visit needs at least to begin from.
    """

    name: str
    data: str
    fps: float
    world: StreamingModel
    vae: VAE
    starts: list[Start]
    conditions: Conditions
    controls: Controls
    sampling: Sampling
    steps: list[int]
    trained: bool
    picture_conditions: Callable[[Frame], Conditions]
    prompt_conditions: Callable[[str], Conditions] | None
    shortest: int
    _together: bool | None = None
    _latents: dict[int, Tensor] = field(default_factory=dict)

    def thumbnail(self, number: int) -> bytes:
        """The last observed frame of a start, as a picture file."""
        return _as_file(self.starts[number].frames[-1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        height, width = self.starts[0].frames.shape[1:3]
        return int(height), int(width)

    @property
    def pictures_per_step(self) -> int:
        """Video frames that are made at once."""
        return self.vae.packing.k * self.world.frames_per_block

    def picture(self, pixels: bytes) -> Frame:
        """A picture of a visitor's own, RGB by rows.

        Raises:
            V2WError: It is not of the size of the world's pictures.
        """
        height, width = self.size
        if len(pixels) != height * width * 3:
            found = f"{len(pixels)} bytes, where {height} x {width} pixels of 3 are {height * width * 3}"
            raise V2WError("begin from a picture", found)
        return np.frombuffer(bytearray(pixels), np.uint8).reshape(height, width, 3)

    def begin(
        self,
        number: int,
        seed: int,
        sampling: Sampling,
        picture: Frame | None = None,
        prompt: str | None = None,
    ) -> Moment:
        """Begin from a start; or with its conditions from a picture, which stands still as long as the model needs.

        A prompt takes the place of what the start is told.

        Raises:
            V2WError: The prompt or the picture cannot be encoded.
        """
        start = self.starts[number]
        if picture is None:
            if number not in self._latents:
                self._latents[number] = self.vae.encode(start.frames)[None]
            latents, done, shown = self._latents[number], start.actions, self.thumbnail(number)
        else:
            latents = self.vae.encode(np.repeat(picture[None], self.shortest, 0))[None]
            done = np.tile(self.controls.action(self.controls.resting()), (self.shortest, 1))
            done[0] = 0  # nothing led to the first frame
            shown = _as_file(picture)
        actions = self.vae.packing.actions(torch.from_numpy(done)[None])
        conditions = {name: value[number : number + 1] for name, value in self.conditions.items()}
        if picture is not None:
            conditions |= {name: value[None] for name, value in self.picture_conditions(picture).items()}
        if prompt is not None and self.prompt_conditions is not None:
            conditions |= {name: value[None] for name, value in self.prompt_conditions(prompt).items()}
        own: dict[str, Any] = {name: value.to(self.world.device) for name, value in conditions.items()}
        h, w = latents.shape[-2:]
        stream = start_stream(self.world, 1, h, w, sampling=sampling, seed=seed, **own)
        stream.observe(latents.to(self.world.device), actions.to(self.world.device))
        decoding: list[Any] = [None]
        if not self.vae.single:
            for j in range(latents.shape[1]):
                _, decoding = self.vae.decode_next(latents[:, j : j + 1], decoding, j)
        return Moment(stream, decoding[0], [shown])

    def step(
        self, moments: Sequence[Moment], actions: Sequence[NDArray[np.float32]], sampling: Sampling
    ) -> list[Moment]:
        """What comes after each of the moments.

        Args:
            moments: Where visitors are.
            actions: What each does, (a,) for one video frame.
            sampling: How all of them sample.

        Returns:
            New moments, in order.

        Raises:
            V2WError: A frame is not finite.
        """
        streams = [moment.stream.branch() for moment in moments]
        for stream in streams:
            stream.sampling = sampling
        each = torch.from_numpy(np.stack(actions))[:, None]
        each = each.repeat(1, 1, self.vae.packing.k).expand(-1, self.world.frames_per_block, -1)
        if len(streams) > 1 and self._together is None:
            self._together = can_step_together(streams[0].branch())
        if len(streams) == 1 or self._together:
            latents = step_together(streams, each)
        else:
            latents = torch.cat([s.step_block(each[i : i + 1]) for i, s in enumerate(streams)])
        decoding = [moment.decoding for moment in moments]
        shown = []
        for j in range(latents.shape[1]):  # none of them is a clip's first
            pictures, decoding = self.vae.decode_next(latents[:, j : j + 1], decoding, 1)
            shown.append(pictures)
        return [
            Moment(stream, state, [_as_file(frame) for frame in as_uint8(frames)])
            for stream, state, frames in zip(streams, decoding, torch.cat(shown, 1), strict=True)
        ]


def open_game(world_folder: Path, data: Path | None, settings: PlaySettings, progress: Progress) -> Game:
    """Open a world model with the data whose episodes visits begin from; None: what is kept with the model.

    Raises:
        V2WError: Model or data cannot be read, do not fit together, or cannot be played.
    """
    device = resolve_device(settings.device)
    progress(ProgressEvent("play", detail="loading"))
    manifest, _, resolved = open_converted(world_folder)
    noise = resolved.noise.build()
    check_sampling(settings, manifest, noise)
    vae = open_vae(world_folder, device)
    asked = f"play {world_folder}"
    require_decodable(vae, asked, "v2w rollout, which writes a video")
    history = history_length(resolved.frames_per_block, vae.packing, settings.history)
    named = "--data DATA, a data set of recorded episodes"
    data_set = open_starts(world_folder, data, settings, manifest.view, asked, named)
    advice = "the data that the model was made for, or convert again with"
    require_actions(asked, data_set.action_dim, manifest.action_dim, vae.packing, advice)
    progress(ProgressEvent("play", detail="reading where visits begin"))
    starts = read_starts(data_set, history, settings.starts)
    require_frame_size(vae, starts[0].frames, asked)
    conditions, sources = rollout_conditions(
        world_folder,
        vae,
        [start.tasks for start in starts],
        [start.frames[0] for start in starts],
        device,
        settings.prompt,
    )

    def of_picture(picture: Frame) -> Conditions:
        frames = picture_frames(manifest, resolved)
        return next(picture_conditions(world_folder, resolved, sources, vae, iter([picture]), frames, device))

    @lru_cache(maxsize=PROMPTS_KEPT)  # encoders take long to load
    def of_prompt(prompt: str) -> Conditions:
        return encode_prompts(world_folder, resolved, [prompt], device)[0]

    sampling = sampling_of(settings, manifest, noise)
    progress(ProgressEvent("play", detail="loading the model"))
    game = Game(
        name=world_folder.resolve().name,
        data="" if data is None else data_set.name,
        fps=data_set.fps,
        world=open_engine(
            world_folder,
            settings.engine,
            device,
            resolve_dtype(settings.dtype, device),
            settings.cache,
        ),
        vae=vae,
        starts=starts,
        conditions=conditions,
        controls=controls_of(data_set),
        sampling=sampling,
        steps=_possible_steps(noise, settings, sampling.steps),
        trained=manifest.stage == "finetuned",
        picture_conditions=of_picture,
        prompt_conditions=of_prompt if prompt_obstacle(world_folder, resolved) is None else None,
        shortest=vae.packing.whole_blocks(1, resolved.frames_per_block),
    )
    if settings.engine != "torch":
        progress(ProgressEvent("play", detail="preparing the engine, which takes its time once"))
        game.step(
            [game.begin(0, 0, game.sampling)], [game.controls.action(game.controls.resting())], game.sampling
        )
    return game


def _possible_steps(noise: Noise, settings: PlaySettings, asked: int) -> list[int]:
    possible = []
    for steps in sorted({*range(1, MAX_STEPS + 1), asked}):
        try:
            noise.check_sampling(steps, settings.context_noise, settings.history_guidance_noise)
        except V2WError:
            continue
        possible.append(steps)
    return possible


def _bytes(kept: Any) -> int:
    """Of the tensors in a nest of lists and dicts."""
    if isinstance(kept, Tensor):
        return kept.numel() * kept.element_size()
    inner = kept.values() if isinstance(kept, dict) else kept if isinstance(kept, list | tuple) else ()
    return sum(map(_bytes, inner))


def _as_file(frame: Frame) -> bytes:
    """One frame as PNG, or as JPEG where it is large."""
    file = io.BytesIO()
    lossless = frame.shape[0] * frame.shape[1] <= LOSSLESS
    Image.fromarray(frame).save(
        file, "PNG" if lossless else "JPEG", **({"compress_level": 1} if lossless else {"quality": QUALITY})
    )
    return file.getvalue()
