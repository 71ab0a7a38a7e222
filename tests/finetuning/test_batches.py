from dataclasses import fields, replace

import pytest
import torch

from v2w_convert.finetuning.batches import (
    BatchSamples,
    generators,
    sample_batch,
    sample_clips,
    sample_dropped,
)
from v2w_convert.finetuning.levels import plain
from v2w_convert.noise import NoiseSpec

DDPM = NoiseSpec(kind="ddpm", prediction="v").build()
EDM = NoiseSpec(kind="edm", prediction="v").build()
PLAIN = plain(DDPM)
MANY, LONG = 1500, 3


def sampled(
    dropout: float = 0.2, period: int | None = None, count: int = MANY, **changes: object
) -> BatchSamples:
    objective = replace(PLAIN, action_dropout=dropout, **changes)  # type: ignore[arg-type]
    return sample_batch((LONG, 1, 1, 1), DDPM, objective, period, generators(count, 0))


def test_every_frame_has_a_noise_level_of_its_own() -> None:
    level = sampled().level
    between_frames = torch.corrcoef(level.T) - torch.eye(3)
    # The correlation of n independent pairs deviates by 1 / sqrt(n); four of these are allowed.
    assert between_frames.abs().max() < 4 / MANY**0.5
    assert level.min() < 3 and level.max() > 996


def test_actions_are_dropped_at_the_asked_rate_frame_by_frame() -> None:
    dropped = sampled().dropped
    assert abs(dropped.float().mean() - 0.2) < 4 * (0.2 * 0.8 / (MANY * LONG)) ** 0.5
    both = (dropped[:, 0] & dropped[:, 1]).float().mean()
    assert abs(both - 0.04) < 4 * (0.04 * 0.96 / MANY) ** 0.5
    assert not sampled(0.0, count=99).dropped.any()
    assert sampled(1.0, count=99).dropped.all()


def test_offsets_reach_the_whole_period_and_only_it() -> None:
    offset = sampled(period=7, count=500).offset
    assert offset is not None and offset.dtype == torch.int64
    assert offset.unique().tolist() == list(range(7))
    assert sampled(count=5).offset is None
    assert sampled(period=7, count=5, random_offsets=False).offset is None


def test_draws_belong_to_their_key_alone() -> None:
    def at(step: int, first: int = 0) -> torch.Tensor:
        return sample_batch((3, 4, 5, 6), DDPM, PLAIN, 7, generators(2, 3, "step", step)[first:]).noise

    before = at(5)
    torch.manual_seed(1)
    untouched = torch.random.get_rng_state()
    at(4)
    assert torch.equal(at(5), before)
    assert not torch.equal(at(4), before)
    assert torch.equal(at(5, first=1)[0], before[1])  # of the clip, not of those before it in the batch
    assert torch.equal(torch.random.get_rng_state(), untouched)


def test_all_clips_are_drawn_and_no_other() -> None:
    assert set(sample_clips(9, generators(400, 0))) == set(range(9))


def test_conditions_are_dropped_at_their_own_rates() -> None:
    found = sample_dropped({"text": 0.3, "image": 0.0, "never": 1.0}, generators(MANY, 0))
    assert abs(sum(found["text"]) / MANY - 0.3) < 4 * (0.3 * 0.7 / MANY) ** 0.5
    assert not any(found["image"]) and all(found["never"])


def test_parts_make_up_the_whole() -> None:
    objective = replace(PLAIN, action_dropout=0.5, self_history=0.5, clean_history=0.5, consistency=0.5)
    whole = sample_batch((3, 4, 5, 6), DDPM, objective, 7, generators(6, 0))
    parts = [whole.select(slice(i, i + 2)) for i in (0, 2, 4)]
    for field in fields(BatchSamples):
        found, of_all = [getattr(part, field.name) for part in parts], getattr(whole, field.name)
        if isinstance(of_all, int):
            assert found == [of_all] * 3
        else:
            assert torch.equal(torch.cat(found), of_all)


@pytest.mark.parametrize("noise", [DDPM, EDM])
def test_a_clean_history_is_that_of_rollouts(noise: object) -> None:
    objective = replace(plain(noise), clean_history=0.5)  # type: ignore[arg-type]
    samples = sample_batch((8, 1, 1, 1), noise, objective, None, generators(400, 0), 2)  # type: ignore[arg-type]
    history = samples.weight == 0
    with_one = history.any(1)
    assert abs(with_one.float().mean() - 0.5) < 4 * 0.5 / 400**0.5
    assert (samples.level[history] == torch.tensor(noise.history_level)).all()  # type: ignore[attr-defined]
    lengths = history[with_one].sum(1)
    assert lengths.unique().tolist() == [2, 4, 6]  # whole blocks; the last one is to be predicted
    assert torch.equal(history[with_one], torch.arange(8) < lengths[:, None])
    assert samples.own is None


def test_levels_of_a_history_may_vary() -> None:
    samples = sampled(clean_history=1.0, history_noise=30.0)
    history = samples.weight == 0
    assert samples.level[history].max() <= 30 and samples.level[history].std() > 5
    assert samples.level[~history].max() > 900


def test_of_a_history_of_its_own_the_model_is_given_the_beginning() -> None:
    objective = replace(PLAIN, self_history=1.0)
    samples = sample_batch((6, 1, 1, 1), DDPM, objective, None, generators(600, 0))
    own, level, draft = samples.own, samples.level, samples.draft_level
    assert own is not None and draft is not None and samples.weight is not None
    history = samples.weight == 0
    assert not own[:, 0].any() and (own <= history).all()
    given = history & ~own
    assert given[:, 0].all() and (given[:, :-1] >= given[:, 1:]).all()
    assert {*own.sum(1).tolist()} == set(range(1, 5)) and not history[:, -1].any()
    assert (level[history] == 0).all() and (draft[given] == 0).all()
    assert draft[own].max() > 700 and draft[own].max() < 901


def test_other_objectives_leave_what_does_not_depend_on_them() -> None:
    one, other = sampled(period=7, count=20), sampled(period=7, count=20, clean_history=1.0, self_history=0.0)
    assert torch.equal(one.noise, other.noise) and torch.equal(one.dropped, other.dropped)
    assert one.offset is not None and other.offset is not None and torch.equal(one.offset, other.offset)
    after = other.level > 0
    assert torch.equal(one.level[after], other.level[after])


def test_no_history_is_to_agree() -> None:
    objective = replace(PLAIN, consistency=1.0, clean_history=0.5)
    samples = sample_batch((8, 1, 1, 1), DDPM, objective, None, generators(40, 0))
    assert samples.agrees is not None and samples.weight is not None
    assert (samples.weight == 0).any()
    assert torch.equal(samples.agrees, (samples.weight > 0) & (samples.level > 0))


def test_a_share_of_the_clips_is_to_agree() -> None:
    samples = sampled(count=400, consistency=0.25)
    assert samples.agrees is not None
    agree = samples.agrees.any(1)
    assert abs(agree.float().mean() - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    assert sampled(count=4).agrees is None
