"""Many rollouts as a Gymnasium vector environment, set beside single ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from v2w_convert.env import ID, WorldEnv, WorldVectorEnv
from v2w_convert.errors import V2WError

Data = Callable[[str], Path]
BRIEF: dict[str, Any] = {"steps": 2, "history": 4}
CLOSE = 1  # of 255: the numbers of a batch may differ in their last digits


def near(a: Any, b: Any) -> bool:
    return bool((np.abs(np.asarray(a, np.int64) - np.asarray(b, np.int64)) <= CLOSE).all())


def second_ends(before: Any, action: Any, after: Any) -> bool:
    return bool(action == 2)


def test_each_does_what_a_single_environment_does(heeding: Path, data_of: Data) -> None:
    envs = gymnasium.make_vec(
        ID,
        num_envs=3,
        vectorization_mode="vector_entry_point",
        world=heeding,
        starts=data_of("choice"),
        render_mode="rgb_array",
        **BRIEF,
    )
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    actions = np.array([[0, 1, 2], [2, 2, 0]])
    single = WorldEnv(heeding, starts=data_of("choice"), **BRIEF)
    runs = []
    for _ in range(2):
        found, infos = envs.reset(seed=7)
        runs.append([found, *(envs.step(row)[0] for row in actions)])
    seen, again = runs
    assert all(np.array_equal(a, b) for a, b in zip(seen, again, strict=True))
    assert all(envs.observation_space.contains(each) for each in seen)
    assert np.array_equal(envs.render(), seen[-1])
    for i in range(3):
        observation, info = single.reset(seed=7 + i)
        assert info["start"] == infos["start"][i] and near(observation, seen[0][i])
        for row, frames in zip(actions, seen[1:], strict=True):
            assert near(single.step(row[i])[0], frames[i])


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_one_that_ends_begins_again_as_in_gymnasiums_own(
    heeding: Path, data_of: Data, mode: AutoresetMode
) -> None:
    """The second action ends an episode; the others go on, and differ from then on in how far they are."""
    given: dict[str, Any] = {
        "world": heeding, "starts": data_of("choice"), "terminated": second_ends,
        "reward": lambda before, action, after: float(action), **BRIEF,
    }  # fmt: skip
    ours = gymnasium.make_vec(ID, num_envs=2, autoreset_mode=mode, max_episode_steps=3, **given)
    theirs = gymnasium.make_vec(
        ID,
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        max_episode_steps=3,
        **given,
    )
    results = []
    for envs in (ours, theirs):
        said = [envs.reset(seed=3)]
        for actions in ([0, 2], [1, 1], [0, 1], [0, 0]):
            if mode is AutoresetMode.DISABLED and len(said) > 1 and (said[-1][2] | said[-1][3]).any():
                said.append(envs.reset(options={"reset_mask": said[-1][2] | said[-1][3]}))
            said.append(envs.step(np.array(actions)))
        results.append(said)
    for a, b in zip(*results, strict=True):
        assert near(a[0], b[0])
        assert all(np.array_equal(x, y) for x, y in zip(a[1:-1], b[1:-1], strict=True))
        assert a[-1].keys() == b[-1].keys()
        if "final_obs" in a[-1]:
            assert all(
                x is y or near(x, y) for x, y in zip(a[-1]["final_obs"], b[-1]["final_obs"], strict=True)
            )
    assert any(each[2].any() for each in results[0] if len(each) == 5)
    assert any(each[3].any() for each in results[0] if len(each) == 5)


@pytest.mark.slow
def test_branches_of_one_moment_differ_by_their_actions_and_seeds(heeding: Path, data_of: Data) -> None:
    envs = WorldVectorEnv(heeding, num_envs=3, starts=data_of("choice"), **BRIEF)
    single = WorldEnv(heeding, starts=data_of("choice"), **BRIEF)
    single.reset(seed=1)
    single.step(0)
    moment = single.branch()
    first = single.step(1)[0]
    same = envs.restore(moment)
    assert np.array_equal(same[0], same[2])
    after = envs.step(np.array([1, 1, 2]))[0]
    assert near(after[0], first) and np.array_equal(after[0], after[1]) and not near(after[0], after[2])
    envs.restore(moment, seed=4)
    other = envs.step(np.array([1, 1, 1]))[0]
    assert not near(other[0], other[1])
    back = envs.branch(2)
    on = envs.step(np.array([0, 0, 0]))[0]
    single.restore(back)
    assert near(single.step(0)[0], on[2])
    envs.restore([back, moment, back])  # as far as different steps: two passes
    mixed = envs.step(np.array([0, 1, 0]))[0]
    assert near(mixed[0], on[2]) and near(mixed[1], first) and near(mixed[2], on[2])


def test_what_is_wrong_is_said(heeding: Path, data_of: Data) -> None:
    envs = WorldVectorEnv(heeding, num_envs=2, starts=data_of("choice"), **BRIEF)
    with pytest.raises(V2WError, match="no episode has begun"):
        envs.step([0, 0])
    with pytest.raises(V2WError, match="some have not begun yet"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=[1, 2], options={"start": [0, 2]})
    for actions in ([0], [0, 3], [0, np.nan], None, [[0, 0], [1, 1]]):
        with pytest.raises(V2WError, match="take a step"):
            envs.step(actions)
    for options in ({"start": 3}, {"start": [0]}, {"starts": 0}, {"reset_mask": np.zeros(2, bool)}):
        with pytest.raises(V2WError, match="reset the environment"):
            envs.reset(options=options)
    with pytest.raises(V2WError, match="branches: 1 of them for 2"):
        envs.restore([envs.branch(0)])
    for wrong in ({"num_envs": 0}, {"autoreset_mode": "Never"}, {"render_mode": "human"}):
        with pytest.raises(V2WError):
            WorldVectorEnv(heeding, starts=data_of("choice"), **wrong)
