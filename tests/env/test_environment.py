"""A world model as a Gymnasium environment, by Gymnasium's own checker and in use."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from v2w_convert.data import open_dataset
from v2w_convert.env import ID, WorldEnv
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.surgery.load import load
from v2w_convert.world.rollout import Sampling, start_stream
from v2w_convert.world.vae import as_uint8, open_vae

Data = Callable[[str], Path]
BRIEF: dict[str, Any] = {"steps": 2, "history": 4}


def brightness(before: Any, action: Any, after: Any) -> float:
    return float(after.mean())


def is_dark(before: Any, action: Any, after: Any) -> bool:
    return bool(after.mean() < 1e9)


@pytest.mark.parametrize("observation", ["pixels", pytest.param("latents", marks=pytest.mark.slow)])
def test_gymnasiums_checker_finds_nothing(heeding: Path, data_of: Data, observation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(
            f"v2w_convert.env:{ID}",
            world=heeding,
            starts=data_of("choice"),
            observation=observation,
            reward=f"{__name__}:brightness",
            render_mode="rgb_array",
            max_episode_steps=5,
            **BRIEF,
        )
        check_env(env.unwrapped)
    shape = (16, 16, 3) if observation == "pixels" else (4, 8, 8)
    assert env.observation_space.shape == shape
    assert env.unwrapped.metadata["render_fps"] == 5.0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param("choice", spaces.Discrete(3), marks=pytest.mark.slow),
        pytest.param("keys", spaces.MultiBinary(3), marks=pytest.mark.slow),
        ("mixed", spaces.Dict),
        pytest.param("amounts", spaces.Box, marks=pytest.mark.slow),
    ],
)
def test_actions_are_what_the_data_says(heeding: Path, data_of: Data, kind: str, expected: Any) -> None:
    env = WorldEnv(heeding, starts=data_of(kind), **BRIEF)
    space: Any = env.action_space
    rows = np.concatenate([actions[:-1] for actions in open_dataset(data_of(kind)).actions()])
    if kind == "mixed":
        assert space["action.turn"] == spaces.Discrete(2)
        space = space["action.gas"]
        rows = rows[:, 2:]
        assert env.get_action_meanings() == ["action.turn=left", "action.turn=right", "gas"]
    if isinstance(space, spaces.Box):
        assert np.array_equal(space.low, rows.min(0)) and np.array_equal(space.high, rows.max(0))
    else:
        assert space == expected
    env.reset(seed=0)
    env.action_space.seed(1)
    for _ in range(2):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert (reward, terminated, truncated, info) == (0.0, False, False, {})


def test_frames_are_those_of_a_rollout(heeding: Path, data_of: Data) -> None:
    env = WorldEnv(
        heeding, starts=data_of("choice"), guidance=1.5, context_noise=0.0, history_guidance=2.0, **BRIEF
    )
    first, info = env.reset(seed=3, options={"start": 1})
    assert info == {"start": 1}
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(3)))
    random.integers(3)
    seed = int(random.integers(2**63))
    episode = list(open_dataset(data_of("choice")).episodes())[2]  # the second that is long enough
    vae, world = open_vae(heeding), load(heeding, dtype=torch.float32)
    latents = vae.encode(episode.frames[:4])[None]
    own: dict[str, Any] = rollout_conditions(heeding, vae, [()], [episode.frames[0]], torch.device("cpu"))[0]
    stream = start_stream(world, 1, 8, 8, sampling=Sampling(2, 1.5, 0.0, 2.0), seed=[seed], **own)
    stream.observe(latents, torch.from_numpy(episode.arriving_actions[None, :4]))
    assert np.array_equal(first, as_uint8(vae.decode(latents[:, -1:])[0])[0])
    for action in (2, 0, 1):
        expected = stream.step(torch.eye(3)[action][None])
        found = env.step(action)[0]
        assert np.array_equal(found, as_uint8(vae.decode(expected[:, None])[0])[0])


@pytest.mark.slow
def test_a_seed_gives_an_episode_again_and_the_next_ones_too(heeding: Path, data_of: Data) -> None:
    env = WorldEnv(heeding, starts=data_of("choice"), **BRIEF)

    def episodes() -> list[Any]:
        found: list[Any] = [env.reset(seed=5)[0], env.step(1)[0], env.reset()[0], env.step(1)[0]]
        return found

    one, other = episodes(), episodes()
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[1], one[3])


@pytest.mark.slow
def test_a_branch_goes_on_as_the_episode_would(heeding: Path, data_of: Data) -> None:
    env = WorldEnv(heeding, starts=data_of("choice"), max_episode_steps=3, terminated=is_dark, **BRIEF)
    env.reset(seed=1)
    env.step(0)
    moment = env.branch()
    on = [env.step(action) for action in (1, 2)]
    other = env.restore(moment)
    left = env.step(0)
    assert np.array_equal(other, env.restore(moment))
    again = [env.step(action) for action in (1, 2)]
    for (a, *rest), (b, *more) in zip(on, again, strict=True):
        assert np.array_equal(a, b) and rest == more
    assert [truncated for _, _, _, truncated, _ in again] == [False, True]
    assert left[2] is True
    env.restore(moment, seed=9)
    assert not np.array_equal(env.step(1)[0], on[0][0])  # other noise
    elsewhere = WorldEnv(heeding, starts=data_of("keys"), **BRIEF)
    elsewhere.restore(moment)
    assert np.array_equal(elsewhere.step([0, 1, 0])[0], on[0][0])  # the same numbers, as keys


def test_episodes_may_begin_with_arrays(heeding: Path, data_of: Data) -> None:
    episodes = list(open_dataset(data_of("choice")).episodes())
    with pytest.raises(V2WError, match="kept no record of its actions"):
        WorldEnv(heeding, starts=episodes, **BRIEF)


def test_a_window_needs_pygame(heeding: Path, data_of: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    if find_spec("pygame") is None:
        with pytest.raises(V2WError, match="pygame is not installed"):
            WorldEnv(heeding, starts=data_of("choice"), render_mode="human", **BRIEF)
        return
    env = WorldEnv(heeding, starts=data_of("choice"), render_mode="human", observation="latents", **BRIEF)
    env.reset(seed=0)
    env.step(0)
    assert env.render() is None and env._window.screen.get_size() == (512, 512)
    env.close()
    env.close()
