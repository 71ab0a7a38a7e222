"""Record episodes of ViZDoom with the action taken at each frame, as a data set.

    python examples/doom/record.py --scenario health_gathering_supreme --seed 1 --frames 4000 --output DIR

The agent wanders: it draws one of three actions and holds it for a random few frames. Frames are
64x64 RGB, every fourth tic of the game. Needs `pip install vizdoom` (ships Freedoom's assets).
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import vizdoom
from PIL import Image

from v2w_convert.data import Episode, open_dataset, write_dataset

SIZE = 64
FRAME_SKIP = 4  # tics of 1/35 s
FPS = 9  # 35 / 4, rounded as a video container likes it
EPISODE = 50  # frames; short, so that many places are seen
BUTTONS = [vizdoom.Button.TURN_LEFT, vizdoom.Button.TURN_RIGHT, vizdoom.Button.MOVE_FORWARD]
NAMES = ["turn_left", "turn_right", "move_forward"]


def game(scenario: str, seed: int) -> vizdoom.DoomGame:
    """A headless game with the three buttons, no weapon, no status bar, no damage flashes."""
    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path) / f"{scenario}.cfg"))
    game.set_available_buttons(BUTTONS)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    # Rendered at many times the recorded size: the game does not filter its textures, and a small
    # picture of them flickers with every step.
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_640X480)
    game.set_render_hud(False)
    game.set_render_weapon(False)
    game.set_render_crosshair(False)
    game.set_render_messages(False)
    # Flashes of the whole screen are the game's interface, not its world.
    game.add_game_args("+blood_fade_scalar 0 +pickup_fade_scalar 0")
    game.set_window_visible(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_seed(seed)
    game.init()
    return game


def play(scenario: str, seed: int, frames: int) -> Iterator[Episode]:
    """Episodes of at most EPISODE frames until `frames` have been seen; same seed, same episodes."""
    rng = np.random.default_rng(seed)
    doom = game(scenario, seed)
    seen = 0
    while seen < frames:
        doom.new_episode()
        pictures: list[np.ndarray] = []
        actions: list[np.ndarray] = []
        action, hold = 0, 0
        while len(pictures) < EPISODE and not doom.is_episode_finished():
            screen = Image.fromarray(doom.get_state().screen_buffer)
            pictures.append(np.asarray(screen.resize((SIZE, SIZE), Image.Resampling.BOX)))
            if hold == 0:
                action, hold = int(rng.choice(3, p=[0.3, 0.3, 0.4])), int(rng.integers(1, 7))
            hold -= 1
            one_hot = np.eye(3, dtype=np.float32)[action]
            actions.append(one_hot)
            doom.make_action(one_hot.tolist(), FRAME_SKIP)
        if len(pictures) >= 2:  # a shorter one has no step from frame to frame
            seen += len(pictures)
            yield Episode(np.stack(pictures), np.stack(actions))
    doom.close()


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
    output = options.output.resolve()
    with tempfile.TemporaryDirectory() as scratch:  # the game writes its settings into the current folder
        os.chdir(scratch)
        episodes = play(options.scenario, options.seed, options.frames)
        write_dataset(
            episodes, output, fps=FPS, action_names=NAMES, task="wander", robot=f"doom-{options.scenario}"
        )
    print(f"{output}: {sum(open_dataset(output).lengths)} frames")


if __name__ == "__main__":
    main()
