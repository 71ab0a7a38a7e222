"""A rollout as a file: truth, rollout, and the same start with other actions, side by side."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_convert.data import open_dataset
from v2w_convert.data.view import decided
from v2w_convert.device import resolve_device, resolve_dtype
from v2w_convert.engines.open import open_engine
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.evaluation.pictures import caption, captioned, contact_sheet, write_png, write_video
from v2w_convert.evaluation.result import RolloutResult
from v2w_convert.evaluation.rollout_frames import (
    check_sampling,
    history_length,
    rollout_frames,
    sampling_of,
)
from v2w_convert.evaluation.settings import RolloutSettings
from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.surgery.load import open_converted
from v2w_convert.world.temporal_compression import require_actions
from v2w_convert.world.vae import as_uint8, open_vae, require_frame_size

SUFFIXES = (".mp4", ".gif", ".png")
SHEET_SCALE = 2  # how often each pixel is repeated
MAX_VIDEO_SCALE, VIDEO_SIDE = 3, 192  # small frames are enlarged up to about this height
SHEET_GAP = 4  # white pixels between frames of a contact sheet
MAX_SHEET_FRAMES = 16  # in a row of a contact sheet
GREY = 128  # where the truth has ended

Frame = NDArray[np.uint8]
"""(h w 3)"""
Frames = NDArray[np.uint8]
"""(t h w 3)"""


def rollout(
    world_folder: Path,
    data: Path,
    output: Path,
    settings: RolloutSettings | None = None,
    *,
    progress: Progress | None = None,
) -> RolloutResult:
    """Write truth | rollout | the same start with the next episode's actions, side by side.

    Where the rollout is longer than the episode, the actions of the episodes after it follow, and the truth
    ends in grey.

    Args:
        world_folder: A converted or finetuned model's folder, with its autoencoder.
        data: A data set that `open_dataset` reads.
        output: A new .mp4 or .gif, which play at the data's rate, or .png, a contact sheet of evenly spaced
            frames.
        settings: The settings; None for the defaults.
        progress: Called before each part of the work.

    Raises:
        V2WError: Model or data cannot be read or do not fit together, the episode is not there or shorter
            than the history, or `output` cannot be written or exists.
    """
    settings = settings or RolloutSettings()
    report = progress or no_progress
    require_target(output)
    device = resolve_device(settings.device)
    report(ProgressEvent("rollout", detail="loading"))
    manifest, _, resolved = open_converted(world_folder)
    check_sampling(settings, manifest, resolved.noise.build())
    vae = open_vae(world_folder, device)
    history = history_length(resolved.frames_per_block, vae.packing, settings.history)
    data_set = open_dataset(data, settings, manifest.view)
    advice = "the data that the model was made for, or convert again with"
    require_actions(
        f"read the data set {data}", data_set.action_dim, manifest.action_dim, vae.packing, advice
    )
    asked, lengths = f"roll out episode {settings.episode} of {data}", data_set.lengths
    if settings.episode >= len(lengths):
        raise V2WError(asked, f"there are {len(lengths)} episodes", f"--episode 0 … {len(lengths) - 1}")
    start = next(iter(data_set.episodes_from(settings.episode)))
    if len(start) < history:
        raise V2WError(
            asked, f"it has {len(start)} frames, fewer than {history} of history", "a shorter history"
        )
    require_frame_size(vae, start.frames, asked)
    total = history + settings.frames
    conditions, _ = rollout_conditions(
        world_folder, vae, [start.tasks], [start.frames[0]], device, settings.prompt
    )
    world = open_engine(
        world_folder, settings.engine, device, resolve_dtype(settings.dtype, device), settings.cache
    )
    both = {name: value.expand(2, *value.shape[1:]) for name, value in conditions.items()}
    taken = list(data_set.actions())
    actions = torch.from_numpy(true_and_other_actions(taken, settings.episode, history, total))
    if not actions.isfinite().all():
        raise V2WError(asked, "an action that follows is not finite", "repair the data, or another episode")
    observed = start.frames[:history]
    latents = vae.encode(observed)[None].expand(2, -1, -1, -1, -1)
    report(ProgressEvent("rollout", detail=f"generating {settings.frames} frames"))
    sampling = sampling_of(settings, manifest, world.noise)
    generated = rollout_frames(world, vae, latents, actions, history, sampling, settings.seed, both)
    titles = [f"truth, episode {settings.episode}", "rollout", "same start, other actions"]
    frames = panel_frames(start.frames, history, generated)
    if output.suffix == ".png":
        write_sheet(titles, frames, total, output)
    else:
        write_video(side_by_side(titles, frames), output, data_set.fps)
    return RolloutResult(
        output=str(output),
        world=world_folder.name,
        data=data_set.name,
        episode=settings.episode,
        history=history,
        frames=settings.frames,
        panels=titles,
        settings={
            **settings.model_dump(mode="json"),
            **decided(data_set, settings, manifest.view, start.frames[0]).model_dump(),
            "device": str(device),
            "dtype": str(resolve_dtype(settings.dtype, device)).removeprefix("torch."),
            "history": history,
            "steps": sampling.steps,
            "context_noise": sampling.context_noise,
            "history_guidance_noise": sampling.history_guidance_noise,
        },
    )


def require_target(output: Path) -> None:
    """Check that `output` can be written, before any work.

    Raises:
        V2WError: It cannot.
    """
    asked = f"write a rollout to {output}"
    if output.suffix not in SUFFIXES:
        raise V2WError(asked, f"suffix {output.suffix!r}", ".mp4, .gif or .png")
    if not output.parent.is_dir():
        raise V2WError(asked, f"there is no folder {output.parent}", "make it first")
    if os.path.lexists(output):
        raise V2WError(asked, "the file exists", "another name")


def true_and_other_actions(
    taken: list[NDArray[np.float32]], episode: int, history: int, total: int
) -> NDArray[np.float32]:
    """Actions (2 total a) as they arrive: the episode's own, and its own in the history but the next episode's after it.

    The actions of the episodes after it follow, from the first episode again after the last.

    Args:
        taken: Actions (t a) of each episode; the last one led nowhere.
        episode: Which.
        history: Frames of history.
        total: Frames in all.
    """
    following = [taken[(episode + i) % len(taken)][:-1] for i in range(len(taken) + 1)]
    true = _first_rows([np.zeros_like(taken[episode][:1]), *following], total)
    other = _first_rows([following[1][:1], *following[1:]], total)
    return np.stack([true, np.concatenate([true[:history], other[history:]])])


def panel_frames(true: Frames, history: int, generated: Iterable[Tensor]) -> Iterator[list[Frame]]:
    """One frame of each panel after another: the truth's, the rollout's, and the other rollout's.

    Args:
        true: (t h w 3); grey follows.
        history: How many frames the rollouts share with the truth.
        generated: Frames of both rollouts (2 m 3 h w) in [0, 1] after the history, some after others.
    """
    for frame in true[:history]:
        yield [frame] * 3
    grey = np.full_like(true[0], GREY)
    truth = chain(true[history:], repeat(grey))
    for frames in generated:
        for one, other in zip(*map(as_uint8, frames), strict=True):
            yield [next(truth), one, other]


def write_sheet(titles: list[str], frames: Iterable[list[Frame]], total: int, output: Path) -> None:
    """Write a contact sheet: under each title some frames of its panel, evenly spaced among its `total`."""
    chosen = set(np.linspace(0, total - 1, min(MAX_SHEET_FRAMES, total)).round().astype(int).tolist())
    kept = [shown for number, shown in enumerate(frames) if number in chosen]
    rows = []
    for title, panel in zip(titles, zip(*kept, strict=True), strict=True):
        row = contact_sheet([np.stack(panel)], scale=SHEET_SCALE, gap=SHEET_GAP)[None]
        rows.append(captioned(row, title)[0])
    write_png(np.concatenate(rows), output)


def side_by_side(titles: list[str], frames: Iterable[list[Frame]]) -> Iterator[Frame]:
    """One picture (h w 3) of all panels beside each other, each under its title, for every frame of them."""
    strips: list[Frame] = []
    for shown in frames:
        scale = min(max(VIDEO_SIDE // len(shown[0]), 1), MAX_VIDEO_SCALE)
        large = [frame.repeat(scale, 0).repeat(scale, 1) for frame in shown]
        if not strips:
            strips = [caption(title, frame.shape[1]) for title, frame in zip(titles, large, strict=True)]
            height = max(map(len, strips))  # where a title takes more lines than another
            strips = [np.pad(x, ((height - len(x), 0), (0, 0), (0, 0)), constant_values=255) for x in strips]
        yield np.concatenate([np.concatenate(strips, 1), np.concatenate(large, 1)])


def _first_rows(pieces: list[NDArray[np.float32]], total: int) -> NDArray[np.float32]:
    """The first `total` rows of the pieces, joined; from the beginning again where there are fewer."""
    rows = np.concatenate(pieces)
    return rows[np.arange(total) % len(rows)]
