"""Rollouts to look at, and figures as tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.clips import read_episodes
from v2w_convert.evaluation.pictures import captioned, contact_sheet, write_png, write_video
from v2w_convert.evaluation.run import history_length, rollout_frames
from v2w_convert.surgery.load import load
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.vae import as_uint8, open_vae, require_frame_size

SCALE = 3  # of video pixels
FPS = 9
SHEET = 16  # frames in a row of a contact sheet


def show(
    world_folder: Path,
    data: Path,
    output: Path,
    episode: int,
    history: int | None,
    frames: int,
    sampling: Sampling,
    seed: int,
    camera: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write truth | rollout | same start with the next episode's actions, side by side.

    Where the rollout is longer than the episode, its actions go on with those of the episodes after it, and
    the truth ends in grey. `.mp4` and `.gif` play; `.png` is a contact sheet of evenly spaced frames.
    """
    if output.suffix not in (".mp4", ".gif", ".png"):
        raise V2WError(f"write a rollout to {output}", f"suffix {output.suffix!r}", ".mp4, .gif or .png")
    if not output.parent.is_dir():
        raise V2WError(f"write a rollout to {output}", f"there is no folder {output.parent}", "make it first")
    world = load(world_folder, device=device, dtype=torch.float32)
    pixels = open_vae(world_folder, device)
    history = history_length(world, pixels.packing, history)
    episodes = read_episodes(data, world.action_dim, pixels.packing, camera=camera)
    asked = f"roll out episode {episode} of {data}"
    if episode >= len(episodes):
        raise V2WError(asked, f"there are {len(episodes)} episodes", f"--episode 0 … {len(episodes) - 1}")
    start = episodes[episode]
    if len(start) < history:
        raise V2WError(
            asked, f"it has {len(start)} frames, fewer than {history} of history", "a shorter history"
        )
    require_frame_size(pixels, start.frames, asked)
    total = history + frames
    following = [
        episodes[(episode + i) % len(episodes)].arriving_actions[1:] for i in range(len(episodes) + 1)
    ]
    true = _continued(start.arriving_actions[:1], following, total)
    other = np.concatenate([true[:history], _continued(following[1][:1], following[1:], total)[history:]])
    actions = torch.from_numpy(np.stack([true, other]))
    latents = pixels.encode(start.frames[:history])[None].expand(2, -1, -1, -1, -1)
    predicted = rollout_frames(world, pixels, latents, actions, history, sampling, seed)
    seen = start.frames[:history]
    grey = np.full((max(total - len(start), 0), *seen.shape[1:]), 128, np.uint8)
    truth = np.concatenate([start.frames[:total], grey])
    panels = [truth, *(np.concatenate([seen, as_uint8(p)]) for p in predicted)]
    titles = [f"truth, episode {episode}", "rollout", "same start, other actions"]
    if output.suffix == ".png":
        chosen = np.linspace(0, total - 1, min(SHEET, total)).round().astype(int)
        rows = [contact_sheet([panel[chosen]], scale=2, gap=4)[None] for panel in panels]
        titled = [captioned(row, title)[0] for row, title in zip(rows, titles, strict=True)]
        write_png(np.concatenate(titled), output)
    else:
        large = [panel.repeat(SCALE, 1).repeat(SCALE, 2) for panel in panels]
        titled = [captioned(panel, title) for panel, title in zip(large, titles, strict=True)]
        tallest = max(panel.shape[1] for panel in titled)  # where a title takes more lines than another
        grown = [
            np.pad(x, ((0, 0), (tallest - x.shape[1], 0), (0, 0), (0, 0)), constant_values=255)
            for x in titled
        ]
        write_video(np.concatenate(grown, 2), output, FPS)
    return {"output": str(output), "frames": frames, "history": history, "episode": episode, "panels": titles}


def _continued(first: np.ndarray, following: list[np.ndarray], total: int) -> np.ndarray:
    rows = np.concatenate([first, *following])
    return rows[np.arange(total) % len(rows)]


def rows_of(result: dict[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Tables (title, columns, rows) of what `evaluate` returned."""
    horizons = list(result["horizons"])
    rows = [
        [metric, *(_interval(result["horizons"][x][metric]) for x in horizons)]
        for metric in next(iter(result["horizons"].values()))
    ]
    for name, metrics in result["baselines"].items():
        rows += [
            [f"{metric}: {name}", *(_interval(by[x]) for x in horizons)] for metric, by in metrics.items()
        ]
    yield "by horizon (frames ahead), mean and 95 % interval over episodes", ["", *horizons], rows
    gap = result["actions"]["psnr gap, true minus other actions"]
    rows = [[f"PSNR gap at {x} (dB), true minus other actions", _interval(value)] for x, value in gap.items()]
    judged = result["actions"]["inverse dynamics"]
    if isinstance(judged, str):
        rows.append(["inverse dynamics", judged])
    else:
        rows += [
            [f"inverse dynamics, {name}", _interval(value) if isinstance(value, dict) else f"{value:.3f}"]
            for name, value in judged.items()
        ]
    if result["long"]:
        long = result["long"]
        for name in ("share within real frames", "share within round-tripped frames"):
            rows.append([f"{long['frames']}-frame rollouts, {name}", _interval(long[name])])
    yield "actions and staying power", ["", "mean [95 % interval]"], rows


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
