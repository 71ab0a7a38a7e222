"""Modules that are not ours."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLWan
from torch import Tensor, nn

from v2w_convert.verification import assert_causal, assert_streams, influence
from v2w_convert.verification.module import latest


class Causal(nn.Module):
    """A convolution over time of (b c t), padded in front, behind a layer that starts at zero."""

    def __init__(self, pad: tuple[int, int] = (2, 0), norm: nn.Module | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.pad = pad
        self.norm = norm or nn.Identity()
        self.conv = nn.Conv1d(4, 4, 3)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.pad(self.norm(x), self.pad))

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        before = x.new_zeros(*x.shape[:2], 2) if state is None else state
        seen = torch.cat([before, x], 2)
        return x + self.conv(self.norm(seen)), seen[:, :, -2:]


X = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_causal_module_passes_and_is_not_changed() -> None:
    module = Causal().double().train()
    effect = assert_causal(module, X, frame_dim=2, sees=2)
    assert bool((effect.triu(1) == 0).all()) and bool((effect.diagonal(-2) > 0).all())
    assert module.training
    assert not module.conv.weight.any()


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (
            Causal((1, 1)),
            r"output frame \d changes by .* when input frame \d does.*later frames leak in its own forward",
        ),
        (nn.Sequential(nn.Conv1d(4, 4, 3, padding=1)), r"later frames leak in 0 \(Conv1d\)"),
        (Causal(norm=nn.GroupNorm(2, 4)), r"later frames leak in norm \(GroupNorm\)"),
        (Causal(norm=nn.BatchNorm1d(4)), None),  # in eval mode its statistics are fixed
        (nn.Conv1d(4, 4, 1), "the past is not seen: 6 frames without effect .* 0 in output 1"),
        (nn.Dropout(), "the past is not seen"),
    ],
    ids=["both-sided", "both-sided by itself", "norm over time", "fixed norm", "no past", "identity"],
)
def test_a_module_that_is_not_causal_is_described(module: nn.Module, found: str | None) -> None:
    if found is None:
        assert_causal(module.double(), X, frame_dim=2)
        return
    with pytest.raises(AssertionError, match=found):
        assert_causal(module.double(), X, frame_dim=2)


def test_a_zero_initialised_layer_hides_a_leak_only_without_randomisation() -> None:
    module = Causal((1, 1)).double()
    assert_causal(module, X, frame_dim=2, sees=0, randomize=False)
    with pytest.raises(AssertionError, match="not causal"):
        assert_causal(module, X, frame_dim=2, sees=0)


def test_a_random_module_is_refused() -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(AssertionError, match="two runs with the same input differ"):
        assert_causal(Random(), X, frame_dim=2)


@torch.no_grad()
def test_streams() -> None:
    module = Causal().double()
    nn.init.normal_(module.conv.weight)
    assert assert_streams(module, module.step, X, frame_dim=2) < 1e-15
    with pytest.raises(AssertionError, match=r"differs by .* first at frame \[1\]"):
        assert_streams(module, lambda x, state: module.step(x, None), X, frame_dim=2)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        (3, 3, [0, 1, 2]),
        (9, 3, [0, 4, 8]),  # an encoder that packs 4, the first frame alone
        (8, 2, [3, 7]),
        (3, 9, [0, 1, 1, 1, 1, 2, 2, 2, 2]),  # its decoder
        (2, 8, [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_which_frame_is_the_last_that_may_be_seen(inputs: int, outputs: int, expected: list[int]) -> None:
    assert latest(inputs, outputs) == expected


def test_numbers_of_frames_that_decide_nothing() -> None:
    with pytest.raises(ValueError, match="7 frames give 5"):
        latest(7, 5)


def wan() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def cogvideox() -> AutoencoderKLCogVideoX:
    torch.manual_seed(0)
    return AutoencoderKLCogVideoX(
        down_block_types=["CogVideoXDownBlock3D"] * 2, up_block_types=["CogVideoXUpBlock3D"] * 2,
        block_out_channels=[8, 8], latent_channels=4, layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=2,
    )  # fmt: skip


VIDEO = torch.randn(1, 3, 9, 16, 16, generator=torch.Generator().manual_seed(0))


def test_wans_encoder_is_causal() -> None:
    effect = assert_causal(wan(), VIDEO, frame_dim=2, call=lambda vae, x: vae.encode(x))
    assert effect.shape == (5, 9)


def test_cogvideoxs_encoder_leaks() -> None:
    """Its convolutions are causal, its norms run over the clip."""
    with pytest.raises(AssertionError, match="not causal: output frame 0 changes"):
        assert_causal(cogvideox(), VIDEO, frame_dim=2, call=lambda vae, x: vae.encode(x))


def test_influence_has_outputs_in_rows_and_inputs_in_columns() -> None:
    def previous_frame(latents: Tensor) -> Tensor:
        return latents.roll(1, 1)

    found = influence(previous_frame, torch.ones(1, 4, 2, 3, 3) + torch.arange(3.0), frame_dim=1)
    assert (found > 0).tolist() == [[(o - 1) % 4 == i for i in range(4)] for o in range(4)]


def test_influence_of_any_callable() -> None:
    effect = influence(lambda x: x.cumsum(1), torch.ones(2, 4, 3), frame_dim=1)
    assert bool(((effect > 0) == torch.ones(4, 4).tril().bool()).all())
