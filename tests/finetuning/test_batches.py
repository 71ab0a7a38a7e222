import torch

from v2w_convert.finetuning.batches import generator, sample_batch, sample_clips
from v2w_convert.noise import NoiseSpec

DDPM = NoiseSpec(kind="ddpm", prediction="v").build()
MANY = (4000, 3, 1, 1, 1)


def test_every_frame_has_a_noise_level_of_its_own() -> None:
    level = sample_batch(MANY, DDPM, 0.2, None, generator(0)).level
    between_frames = torch.corrcoef(level.T) - torch.eye(3)
    # The correlation of n independent pairs deviates by 1 / sqrt(n); four of these are allowed.
    assert between_frames.abs().max() < 4 / MANY[0] ** 0.5
    assert level.min() == 0 and level.max() == 999


def test_actions_are_dropped_at_the_asked_rate_frame_by_frame() -> None:
    dropped = sample_batch(MANY, DDPM, 0.2, None, generator(0)).dropped
    b, t = MANY[:2]
    assert abs(dropped.float().mean() - 0.2) < 4 * (0.2 * 0.8 / (b * t)) ** 0.5
    both = (dropped[:, 0] & dropped[:, 1]).float().mean()
    assert abs(both - 0.04) < 4 * (0.04 * 0.96 / b) ** 0.5
    assert not sample_batch(MANY, DDPM, 0.0, None, generator(0)).dropped.any()
    assert sample_batch(MANY, DDPM, 1.0, None, generator(0)).dropped.all()


def test_offsets_reach_the_whole_period_and_only_it() -> None:
    offset = sample_batch((500, 2, 1, 1, 1), DDPM, 0.2, 7, generator(0)).offset
    assert offset is not None and offset.dtype == torch.int64
    assert offset.unique().tolist() == list(range(7))
    assert sample_batch((5, 2, 1, 1, 1), DDPM, 0.2, None, generator(0)).offset is None


def test_draws_belong_to_their_key_alone() -> None:
    def at(step: int) -> torch.Tensor:
        return sample_batch((2, 3, 4, 5, 6), DDPM, 0.2, 7, generator(3, "step", step)).noise

    before = at(5)
    torch.manual_seed(1)
    untouched = torch.random.get_rng_state()
    at(4)
    assert torch.equal(at(5), before)
    assert not torch.equal(at(4), before)
    assert torch.equal(torch.random.get_rng_state(), untouched)


def test_all_clips_are_drawn_and_no_other() -> None:
    assert set(sample_clips(9, 400, generator(0))) == set(range(9))


def test_parts_make_up_the_whole() -> None:
    whole = sample_batch((6, 3, 4, 5, 6), DDPM, 0.5, 7, generator(0))
    parts = [whole.select(slice(i, i + 2)) for i in (0, 2, 4)]
    for name in ("level", "noise", "dropped", "offset"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
