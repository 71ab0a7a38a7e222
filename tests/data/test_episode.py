import numpy as np
import pytest

from tests.data.coloured import episodes
from v2w_convert.data import Episode
from v2w_convert.errors import V2WError


def test_an_arriving_action_is_the_one_taken_before() -> None:
    episode = episodes()[0]
    assert np.array_equal(episode.arriving_actions[1:], episode.actions[:-1])
    assert not episode.arriving_actions[0].any()


def test_bad_episodes() -> None:
    good = episodes()[0]
    with pytest.raises(V2WError, match="5 frames but actions of shape"):
        Episode(good.frames, good.actions[:4])
    with pytest.raises(V2WError, match="NaN"):
        Episode(good.frames, good.actions * np.nan)
    with pytest.raises(V2WError, match="uint8"):
        Episode(good.frames.astype(np.float32), good.actions)
