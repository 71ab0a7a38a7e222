"""Environments: folders, records, beginnings, settings, functions and actions that are not what they should be.

Each ends with a V2WError of one line.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hostile.counts import documented
from tests.squares import moving_square, write
from tests.tiers import slow_except
from v2w_convert.data import Episode, write_dataset
from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.errors import V2WError

pytest.importorskip("gymnasium")

Change = Callable[[dict[str, Any]], Any]
NUMBERS = {"count": 9, "mean": [0.0] * 3, "std": [1.0] * 3, "min": [-1.0] * 3, "max": [1.0] * 3}


def part(**changed: Any) -> dict[str, Any]:
    return {"name": "action", "kind": "continuous", "labels": ["x", "y", "z"], **changed}


RECORDS: list[dict[str, Any]] = [
    {"parts": []},
    {"parts": [part(labels=[])]},
    {"parts": [part(labels=["x", "y"])]},
    {"parts": [part(), part(name="again")]},
    {"parts": [part(kind="text")]},
    {"parts": [part(labels=["x" * 2000, "y", "z"])]},
    {"parts": [part(labels=[1, 2, 3])]},
    {"parts": "action"},
    {"parts": [part()], "min": [2.0] * 3},
    {"parts": [part()], "max": [1.0] * 2},
    {"parts": [part()], "mean": ["x"] * 3},
]
SOME = {0, 3, 8}  # that are quick
SETTINGS: list[dict[str, Any]] = [
    {"steps": 0},
    {"steps": "many"},
    {"steps": 2000},
    {"guidance": float("nan")},
    {"context_noise": -1},
    {"history_guidance": 2.0, "history_guidance_noise": 1000.5},
    {"history_guidance_noise": 100.0},
    {"history": 0},
    {"history": 11},
    {"seed": 1},
    {"observation": "sound"},
    {"max_episode_steps": 0},
    {"device": "abacus"},
    {"dtype": "int8"},
    {"frames": 3},
    {"render_mode": "ascii"},
    {"reward": "nowhere"},
    {"reward": "no_such_module_anywhere:f"},
    {"terminated": f"{__name__}:nothing"},
    {"reward": 3},
    {"starts": []},
    {"starts": "/no/such/data"},
    {"starts": [1, 2]},
]


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes with one choice among three."""
    folder = tmp_path_factory.mktemp("starts") / "choices"
    space = ActionSpace((ActionPart("action", "discrete", 3, ("a", "b", "c")),))
    rows = np.eye(3, dtype=np.float32)[np.arange(9) % 3]
    write_dataset([Episode(moving_square(9, 0).frames, rows)], folder, fps=5, action_names=space)
    return folder


def one_line(call: Callable[[], Any], words: str | None = None) -> None:
    with pytest.raises(V2WError, match=words) as refused:
        call()
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1500


def copied(world: Path, tmp_path: Path, record: Any = None) -> Path:
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    if record is not None:
        manifest = json.loads((folder / "v2w.json").read_text())
        manifest["finetuning"] = {"steps": 1, "actions": {**NUMBERS, **record}}
        (folder / "v2w.json").write_text(json.dumps(manifest))
    return folder


def test_the_page_says_how_many() -> None:
    folders, functions, actions = 7, 3, 13
    assert documented("environments: records, settings, actions") == (
        len(RECORDS) + len(SETTINGS) + folders + functions + actions,
        0,
    )


@pytest.mark.parametrize("record", slow_except(SOME, range(len(RECORDS))))
def test_records_of_actions(tiny_converted: Path, choices: Path, tmp_path: Path, record: int) -> None:
    from v2w_convert.env import WorldEnv

    one_line(
        lambda: WorldEnv(copied(tiny_converted, tmp_path, RECORDS[record]), starts=choices, steps=1),
        "actions",
    )


def test_a_record_that_is_right_is_read(tiny_converted: Path, choices: Path, tmp_path: Path) -> None:
    from v2w_convert.env import WorldEnv

    folder = copied(tiny_converted, tmp_path, {"parts": [part()]})
    shutil.copytree(choices, folder / "starts")
    space: Any = WorldEnv(folder, steps=1).action_space  # the record comes before the data
    assert (space.low.tolist(), space.high.tolist()) == (NUMBERS["min"], NUMBERS["max"])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings(tiny_converted: Path, choices: Path, settings: dict[str, Any]) -> None:
    from v2w_convert.env import WorldEnv

    one_line(lambda: WorldEnv(tiny_converted, **{"starts": choices, **settings}))


@pytest.mark.slow
def test_folders(tiny_converted: Path, tiny_base: Path, choices: Path, tmp_path: Path) -> None:
    from v2w_convert.env import WorldEnv

    one_line(lambda: WorldEnv(tmp_path / "none", starts=choices), "no such folder")
    one_line(lambda: WorldEnv(choices, starts=choices), "not a converted model")
    one_line(lambda: WorldEnv(tiny_base, starts=choices), "not a converted model")
    one_line(lambda: WorldEnv(tiny_converted), "no frames to begin from")
    episodes = [moving_square(9, 0)]
    one_line(lambda: WorldEnv(tiny_converted, starts=episodes), "kept no record of its actions")
    one_line(lambda: WorldEnv(tiny_converted, starts=write(tmp_path / "two", (9,), actions=2)), "2 numbers")
    folder = copied(tiny_converted, tmp_path)
    os.symlink(choices, folder / "starts")
    one_line(lambda: WorldEnv(folder), "is a link to")


@pytest.mark.slow
def test_functions(tiny_converted: Path, choices: Path) -> None:
    from v2w_convert.env import WorldEnv

    def fails(before: Any, action: Any, after: Any) -> float:
        raise ZeroDivisionError("no score")

    for reward in (fails, lambda *given: float("nan"), lambda *given: "much"):
        env = WorldEnv(tiny_converted, starts=choices, steps=1, reward=reward)
        env.reset(seed=0)
        one_line(lambda env=env: env.step(0), "call the reward")  # type: ignore[misc]


@pytest.mark.slow
def test_actions(tiny_converted: Path, choices: Path, tmp_path: Path) -> None:
    from v2w_convert.env import WorldEnv

    env = WorldEnv(tiny_converted, starts=choices, steps=1)
    env.reset(seed=0)
    for action in (3, -1, 0.5, np.nan, None, "left", [0, 1]):
        one_line(lambda action=action: env.step(action), "is not in Discrete")  # type: ignore[misc]
    env = WorldEnv(tiny_converted, starts=write(tmp_path / "amounts", (9,)), steps=1)
    env.reset(seed=0)
    low: Any = env.action_space.low  # type: ignore[attr-defined]
    for action in (low * np.nan, low - 1, low[:2], low[None], np.inf, [None] * 3):
        one_line(lambda action=action: env.step(action), "is not in Box")  # type: ignore[misc]
