"""Record episodes of ViZDoom with the action taken at each frame, as data sets.

    python -m examples.doom.pipeline.record --scenario health_gathering_supreme --seed 1 --frames 4000 --output DIR

The agent wanders: it draws one of three actions and holds it for a random few frames. Frames are
64x64 RGB, every fourth tic of the game. Needs `pip install '.[record]'` (vizdoom ships Freedoom's assets).
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from examples.doom.pipeline.pictures import as_input, psnr, write_sheet
from examples.doom.pipeline.stages import Figures, Job
from v2w_convert.data import Dataset, Episode, open_dataset, write_dataset
from v2w_convert.errors import V2WError

SIZE = 64
FRAME_SKIP = 4  # tics of 1/35 s
FPS = 9  # 35 / 4, rounded as a video container likes it
EPISODE = 50  # frames; short, so that many places are seen
NAMES = ["turn_left", "turn_right", "move_forward"]
CHANCES = [0.3, 0.3, 0.4]
LONGEST_HOLD = 6  # frames of an action
PART = 2000  # frames of a data set, about: what is lost when recording is stopped
SHOWN = 12  # frames of a contact sheet, every fourth
SEEDS = {
    "pretraining": 1,
    "train": 2001,
    "validation": 4001,
    "test": 9001,
}  # of the first part; others follow


def run(job: Job) -> Figures:
    """The stage: `pretraining/SCENARIO-N` and `validation/SCENARIO-N` in parts; `target/train-0`, … whole, as `v2w` reads it."""
    asked, folder = job.recipe.record, job.folder("record")
    wanted = [("pretraining", s, n, f"pretraining/{s}", PART) for s, n in asked.pretraining.items()]
    wanted += [("validation", s, n, f"validation/{s}", PART) for s, n in asked.validation.items()]
    for use in ("train", "validation", "test"):
        frames = getattr(asked.target, use)
        wanted.append((use, asked.target.scenario, frames, f"target/{use}", frames))
    figures: dict[str, Any] = {}
    for use, scenario, frames, name, size in wanted:
        parts = range(-(-frames // size))
        for number in parts:
            part = folder / f"{name}-{number}"
            if not part.exists():
                record(scenario, SEEDS[use] + number, min(size, frames - size * number), part)
                print(f"record: {part.relative_to(folder)}", flush=True)
        sets = [open_dataset(folder / f"{name}-{number}") for number in parts]
        sheet = folder / f"{name.replace('/', '-')}.png"
        write_sheet([sets[0].first().frames[: 4 * SHOWN : 4]], sheet)
        figures[name] = {
            "scenario": scenario,
            "frames": sum(sum(dataset.lengths) for dataset in sets),
            "copied_psnr_db": {ahead: copied_psnr(sets[0], ahead) for ahead in (1, 4, 16)},
        }
        job.watch()
    return figures


def copied_psnr(dataset: Dataset, ahead: int) -> float:
    """PSNR of each frame, set against the one `ahead` frames later: how little happens."""
    frames = (torch.from_numpy(e.frames).permute(0, 3, 1, 2) for e in dataset.episodes() if len(e) > ahead)
    pairs = [(as_input(x[:-ahead]), as_input(x[ahead:])) for x in frames]
    return psnr(*(torch.cat(side) for side in zip(*pairs, strict=True)))


def data_sets(job: Job, name: str) -> list[Path]:
    """The parts of a recording, such as "pretraining/deathmatch", in order."""
    folder = job.folder("record") / name
    found = folder.parent.glob(f"{folder.name}-*")
    return sorted(found, key=lambda part: int(part.name.rpartition("-")[2]))


def record(scenario: str, seed: int, frames: int, output: Path) -> None:
    """Write a data set of at least `frames` frames; same seed, same episodes.

    Raises:
        V2WError: There is no ViZDoom or no such scenario; `output` cannot be written.
    """
    output = output.resolve()
    # The game writes its settings into the current folder.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        episodes = play(scenario, seed, frames)
        write_dataset(episodes, output, fps=FPS, action_names=NAMES, task="wander", robot=f"doom-{scenario}")


def play(scenario: str, seed: int, frames: int, longest: int = EPISODE) -> Iterator[Episode]:
    """Episodes of at most `longest` frames until `frames` have been seen; same seed, same episodes."""
    rng = np.random.default_rng(seed)
    doom = game(scenario, seed)
    seen = 0
    try:
        while seen < frames:
            doom.new_episode()
            pictures: list[np.ndarray] = []
            actions: list[np.ndarray] = []
            action, hold = 0, 0
            while len(pictures) < longest and not doom.is_episode_finished():
                screen = Image.fromarray(doom.get_state().screen_buffer)
                pictures.append(np.asarray(screen.resize((SIZE, SIZE), Image.Resampling.BOX)))
                if hold == 0:
                    action, hold = int(rng.choice(3, p=CHANCES)), int(rng.integers(1, LONGEST_HOLD + 1))
                hold -= 1
                one_hot = np.eye(3, dtype=np.float32)[action]
                actions.append(one_hot)
                doom.make_action(one_hot.tolist(), FRAME_SKIP)
            if len(pictures) >= 2:  # a shorter one has no step from frame to frame
                seen += len(pictures)
                yield Episode(np.stack(pictures), np.stack(actions))
    finally:
        doom.close()


def game(scenario: str, seed: int) -> Any:
    """A headless game with the three buttons, no weapon, no status bar, no damage flashes.

    Raises:
        V2WError: There is no ViZDoom, or no such scenario.
    """
    try:
        import vizdoom
    except ImportError:
        raise V2WError(f"record {scenario}", "there is no vizdoom", "pip install '.[record]'") from None
    config = Path(vizdoom.scenarios_path) / f"{scenario}.cfg"
    if not config.is_file():
        names = sorted(file.stem for file in config.parent.glob("*.cfg"))
        raise V2WError(f"record {scenario}", "vizdoom has no such scenario", ", ".join(names))
    doom = vizdoom.DoomGame()
    doom.load_config(str(config))
    button = vizdoom.Button
    doom.set_available_buttons([button.TURN_LEFT, button.TURN_RIGHT, button.MOVE_FORWARD])
    doom.set_screen_format(vizdoom.ScreenFormat.RGB24)
    # Rendered at many times the recorded size: the game does not filter its textures, and a small
    # picture of them flickers with every step.
    doom.set_screen_resolution(vizdoom.ScreenResolution.RES_640X480)
    doom.set_render_hud(False)
    doom.set_render_weapon(False)
    doom.set_render_crosshair(False)
    doom.set_render_messages(False)
    # Flashes of the whole screen are the game's interface, not its world.
    doom.add_game_args("+blood_fade_scalar 0 +pickup_fade_scalar 0")
    doom.set_window_visible(False)
    doom.set_mode(vizdoom.Mode.PLAYER)
    doom.set_seed(seed)
    doom.init()
    return doom


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scenario", default="health_gathering_supreme", help="a scenario that vizdoom ships"
    )
    parser.add_argument("--seed", type=int, default=1, help="other seeds give other episodes")
    parser.add_argument(
        "--frames", type=int, default=4000, help="stop after the episode that reaches this many"
    )
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        record(options.scenario, options.seed, options.frames, options.output)
    except V2WError as error:
        raise SystemExit(str(error)) from None
    print(f"{options.output}: {sum(open_dataset(options.output).lengths)} frames")


if __name__ == "__main__":
    main()
