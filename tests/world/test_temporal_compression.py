import pytest
import torch

from v2w_convert.errors import V2WError
from v2w_convert.world.temporal_compression import TemporalCompression, require_actions

ONE, WAN, ALLEGRO = TemporalCompression(), TemporalCompression(4), TemporalCompression(4, alone=False)


@pytest.mark.parametrize(
    ("packing", "t", "j"),
    [
        *((ONE, 7, 7), (WAN, 0, 0), (WAN, 1, 1), (WAN, 4, 1), (WAN, 5, 2), (WAN, 12, 3), (WAN, 13, 4)),
        *((ALLEGRO, 3, 0), (ALLEGRO, 4, 1), (ALLEGRO, 7, 1), (ALLEGRO, 8, 2)),
    ],
)
def test_what_is_left_over_makes_no_latent_frame(packing: TemporalCompression, t: int, j: int) -> None:
    assert packing.latents(t) == j
    assert packing.frames(j) <= t < packing.frames(j + 1)


@pytest.mark.parametrize("packing", [ONE, WAN, ALLEGRO, TemporalCompression(6)])
@pytest.mark.parametrize("n", [1, 3])
def test_the_next_whole_number_is_the_least_one_that_fits(packing: TemporalCompression, n: int) -> None:
    fitting = [packing.frames(n * blocks) for blocks in range(1, 60)]
    assert [packing.whole_blocks(t, n) for t in range(1, 60)] == [
        min(f for f in fitting if f >= t) for t in range(1, 60)
    ]


def test_actions_of_the_frames_of_a_latent_frame_stand_in_their_order() -> None:
    actions = torch.arange(1, 19.0).view(9, 2)  # row t is (2t + 1, 2t + 2)
    assert torch.equal(ONE.actions(actions), actions)
    packed = WAN.actions(actions)
    assert packed.tolist() == [
        [0, 0, 0, 0, 0, 0, 1, 2],
        [3, 4, 5, 6, 7, 8, 9, 10],
        [11, 12, 13, 14, 15, 16, 17, 18],
    ]
    assert ALLEGRO.actions(actions[:8]).tolist() == [list(range(1, 9)), list(range(9, 17))]
    both = WAN.actions(torch.stack([actions, -actions]))
    assert torch.equal(both, torch.stack([packed, -packed]))


@pytest.mark.parametrize("packing", [WAN, ALLEGRO])
def test_one_action_changes_the_row_of_its_frame(packing: TemporalCompression) -> None:
    t = packing.frames(3)
    actions = torch.randn(t, 2, generator=torch.Generator().manual_seed(0))
    for frame in range(t):
        changed = actions.clone()
        changed[frame] += 1
        rows = (packing.actions(changed) != packing.actions(actions)).any(1)
        assert rows.nonzero().flatten().tolist() == [-(-frame // 4) if packing.alone else frame // 4]


def test_actions_that_do_not_fit_come_with_the_number_that_does() -> None:
    require_actions("finetune", 3, 12, WAN, "convert with")
    with pytest.raises(
        V2WError,
        match=r"have 3 numbers, 12 with 4 video frames .* takes 3 \(try: convert with --action-dim 12\)",
    ):
        require_actions("finetune", 3, 3, WAN, "convert with")
    with pytest.raises(
        V2WError, match=r"have 3 numbers, the model takes 2 \(try: convert with --action-dim 3\)"
    ):
        require_actions("finetune", 3, 2, ONE, "convert with")
