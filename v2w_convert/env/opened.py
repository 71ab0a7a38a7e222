"""A world model opened for environments: what all episodes of an environment share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from v2w_convert.data import Episode
from v2w_convert.device import resolve_device, resolve_dtype
from v2w_convert.engines.open import open_engine
from v2w_convert.env.settings import EnvSettings
from v2w_convert.env.spaces import Actions
from v2w_convert.env.starts import Starts, beginnings, known_actions, open_starts
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.evaluation.rollout_frames import check_sampling, history_length, sampling_of
from v2w_convert.plan.call import Conditions
from v2w_convert.sites import State
from v2w_convert.surgery.load import open_converted
from v2w_convert.world.rollout import Sampling, StreamingModel
from v2w_convert.world.vae import VAE, open_vae, require_decodable, require_frame_size

FPS = 10  # of `render`, where nobody says


@dataclass(frozen=True)
class OpenedWorld:
    """A world model, its autoencoder, and n beginnings of episodes.

    Attributes:
        folder: Where it lies.
        settings: How frames are generated.
        world: The model.
        vae: Its autoencoder.
        sampling: The part of the settings that a stream takes.
        actions: What actions are.
        fps: Frames a second.
        starts: The observed frames, and their actions.
        conditions: Of each beginning (n …), on the CPU.
        empty: The state of one stream before its first frame.
        size: h, w of latents.
        picture: height, width of pictures.
    """

    folder: Path
    settings: EnvSettings
    world: StreamingModel
    vae: VAE
    sampling: Sampling
    actions: Actions
    fps: float
    starts: list[Episode]
    conditions: Conditions
    empty: State
    size: tuple[int, int]
    picture: tuple[int, int]
    _encoded: dict[int, Tensor] = field(default_factory=dict)

    @property
    def observation_space(self) -> spaces.Box:
        """Of one environment."""
        if self.settings.observation == "pixels":
            return spaces.Box(0, 255, (*self.picture, 3), np.uint8)
        most = float(np.finfo(np.float32).max)  # latents are finite, and have no other bounds
        return spaces.Box(-most, most, (self.world.channels, *self.size), np.float32)

    @property
    def frames_per_step(self) -> int:
        """Video frames that a step generates: those of a block."""
        return self.vae.packing.k * self.world.frames_per_block

    def latents(self, start: int) -> Tensor:
        """Latents (j c h w) of a beginning, on the CPU; each is encoded once, by itself, so that it is always the same."""
        if start not in self._encoded:
            self._encoded[start] = self.vae.encode(self.starts[start].frames).cpu()
        return self._encoded[start]

    def history(self, start: int) -> Tensor:
        """The actions (j k·a) that led to each latent frame of a beginning."""
        return self.vae.packing.actions(torch.from_numpy(self.starts[start].arriving_actions))

    def held(self, actions: Tensor) -> Tensor:
        """An action (b a), held over all frames of a step: (b n k·a) for n latent frames."""
        n, k = self.world.frames_per_block, self.vae.packing.k
        return actions[:, None].expand(-1, n, -1).repeat(1, 1, k)


def open_world(folder: Path, starts: Starts, settings: EnvSettings) -> OpenedWorld:
    """Open a finetuned or converted model.

    Raises:
        V2WError: It cannot be read, does not fit `starts`, or nobody says what its actions are.
    """
    asked = f"make an environment of {folder}"
    device = resolve_device(settings.device)
    dtype = resolve_dtype(settings.dtype, device)
    manifest, _, resolved = open_converted(folder)
    check_sampling(settings, manifest, resolved.noise.build())
    vae = open_vae(folder, device)
    if settings.observation == "pixels":
        require_decodable(vae, asked, 'observation="latents"')
    data, episodes = open_starts(starts, folder, manifest, settings)
    actions = known_actions(manifest, data, vae.packing, asked)
    history = history_length(resolved.frames_per_block, vae.packing, settings.history)
    begun = beginnings(episodes, history, actions.parts.dim, asked)
    require_frame_size(vae, begun[0].frames, asked)
    conditions, _ = rollout_conditions(
        folder,
        vae,
        [episode.tasks for episode in begun],
        [episode.frames[0] for episode in begun],
        device,
        settings.prompt,
    )
    world = open_engine(folder, settings.engine, device, dtype, settings.cache)
    first = vae.encode(begun[0].frames)
    h, w = first.shape[-2:]
    _, height, width, _ = begun[0].frames.shape
    return OpenedWorld(
        folder=folder,
        settings=settings,
        world=world,
        vae=vae,
        sampling=sampling_of(settings, manifest, world.noise),
        actions=actions,
        fps=manifest.view.fps or (FPS if data is None else data.fps),
        starts=begun,
        conditions=conditions,
        empty=world.empty_state(1, h, w),
        size=(h, w),
        picture=(height, width),
    )


def same_model(one: OpenedWorld, other: OpenedWorld) -> bool:
    """Whether states of the one can be gone on from in the other: the same files, sampled alike."""
    kept: dict[str, Any] = one.settings.model_dump(exclude={"max_episode_steps", "observation"})
    return (
        one.folder.resolve() == other.folder.resolve()
        and kept == other.settings.model_dump(exclude={"max_episode_steps", "observation"})
        and one.size == other.size
    )
