import pytest
import torch

from tests.tiny import tiny_world
from v2w_convert.verification.engine.inputs import change_frames, latent_size
from v2w_convert.verification.engine.manners import (
    HISTORY,
    MIXED,
    UNIFORM,
    UNKNOWN,
    Manner,
    clips_in_manners,
    other_sizes,
    trained_size,
)
from v2w_convert.world.model import World

T = 5


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world("wan").double()


def test_history_is_clean_and_has_its_actions(world: World) -> None:
    inputs = clips_in_manners(world, [HISTORY], T, seed=0)
    assert (inputs["noise_level"] == world.noise.history_level).all()
    assert not inputs["dropped"].any()
    assert "offset" not in inputs


def test_a_rollout_is_clean_but_for_its_last_frame(world: World) -> None:
    level = clips_in_manners(world, [Manner("", "rollout")], T, seed=0)["noise_level"][0]
    assert (level[:-1] == world.noise.history_level).all()
    assert level[-1] > world.noise.history_level


def test_levels_are_mixed_with_the_cleanest_and_the_largest(world: World) -> None:
    level = clips_in_manners(world, [MIXED] * 4, 8, seed=0)["noise_level"]
    assert (level == 0).any()
    assert (level == world.noise.max_level).any()
    assert len(level.unique()) > 4


def test_levels_fall_and_rise(world: World) -> None:
    level = clips_in_manners(world, [Manner("", "falling"), Manner("", "rising")], T, seed=0)["noise_level"]
    assert (level[0].diff() < 0).all()
    assert (level[1].diff() > 0).all()


def test_each_clip_has_its_manner(world: World) -> None:
    manners = [
        UNKNOWN,
        HISTORY,
        Manner("", values="negative"),
        Manner("", values="still"),
        Manner("", scale=100),
    ]
    inputs = clips_in_manners(world, manners, T, seed=0)
    assert inputs["dropped"][0].all()
    assert inputs["offset"].count_nonzero() == 1
    assert (inputs["latents"][2] < 0).all()
    assert (inputs["latents"][3] == inputs["latents"][3, :1]).all()
    assert not inputs["actions"][3].any()
    assert inputs["latents"][4].abs().max() > 100
    assert inputs["text"][4].abs().max() > 100


def test_actions_and_conditions_are_left_out_only_where_no_clip_has_any(world: World) -> None:
    bare = next(manner for manner in UNIFORM if not manner.given)
    assert clips_in_manners(world, [bare] * 2, T, seed=0).keys() == {"latents", "noise_level"}
    assert "text" in clips_in_manners(world, [bare, HISTORY], T, seed=0)


def test_what_is_too_large_for_the_stored_precision_is_not_given(world: World) -> None:
    half = tiny_world("wan").to(torch.float16)
    (large,) = [manner for manner in UNIFORM if manner.scale == 100]
    assert clips_in_manners(half, [large], T, seed=0)["text"].abs().max() < 10


def test_offsets_change_where_a_whole_clip_does(world: World) -> None:
    inputs = clips_in_manners(world, [MIXED] * 2, T, seed=0)
    frames = torch.ones(2, T, dtype=torch.bool)
    frames[1, 0] = False
    changed = change_frames(inputs, 1, world, tuple(inputs), frames)
    assert (changed["offset"] != inputs["offset"]).tolist() == [True, False]


def test_pictures_are_upright_square_and_as_the_base_was_trained(world: World) -> None:
    h, w = latent_size(world)
    upright, square = other_sizes(world)
    assert upright[0] > upright[1]
    assert square[0] == square[1] > w > h
    assert other_sizes(world, brief=True) == [upright]


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"sample_size": 32}, (32, 32)),
        ({"sample_size": [60, 90]}, (60, 90)),
        ({"sample_height": 60, "sample_width": 90}, (60, 90)),
        ({"sample_size": None}, None),
        ({}, None),
    ],
)
def test_the_size_that_the_base_was_trained_on(
    config: dict[str, object], size: tuple[int, int] | None
) -> None:
    assert trained_size(config) == size
