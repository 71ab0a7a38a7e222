"""Recorded play, where ViZDoom is installed (`make world` does it)."""

from pathlib import Path

import pytest

from examples.doom.pipeline.record import EPISODE, NAMES, SIZE, record
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError

pytest.importorskip("vizdoom")


def test_the_same_seed_gives_the_same_episodes(tmp_path: Path) -> None:
    for name, seed in (("once", 1), ("again", 1), ("other", 2)):
        record("health_gathering", seed, EPISODE + 1, tmp_path / name)
    once, again, other = (open_dataset(tmp_path / name) for name in ("once", "again", "other"))
    assert once.fingerprint() == again.fingerprint() != other.fingerprint()
    assert once.action_names == NAMES
    assert sum(once.lengths) > EPISODE
    episode = once.first()
    assert episode.frames.shape[1:] == (SIZE, SIZE, 3)
    assert (episode.actions.sum(1) == 1).all()


def test_an_unknown_scenario_is_refused_and_the_others_named(tmp_path: Path) -> None:
    with pytest.raises(V2WError, match="record nowhere: vizdoom has no such scenario .*deathmatch"):
        record("nowhere", 1, 10, tmp_path / "out")
    assert not (tmp_path / "out").exists()
