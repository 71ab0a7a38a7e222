"""Each latent frame of a rollout is generated after the actions that led to its own video frames."""

import pytest
import torch

from tests.autoencoders import tiny_autoencoder
from tests.tiny import tiny_model, tiny_resolved
from v2w_convert.evaluation.rollout_frames import rollout_frames
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.verification.engine.reference_rollout import ReferenceRollout
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.vae import VAE

A, B = 2, 2
PLANS = {"AutoencoderKLTemporalDecoder": "stable-video-diffusion", "AutoencoderKLWan": "wan"}


def led_to(j: int, k: int, alone: bool) -> list[int]:
    """The video frames of latent frame j; -1 where there is none."""
    last = k * j if alone else k * j + k - 1
    return [max(frame, -1) for frame in range(last - k + 1, last + 1)]


@torch.no_grad()
@pytest.mark.parametrize(
    ("autoencoder", "n", "history", "t"),
    [
        pytest.param("AutoencoderKLTemporalDecoder", 1, 3, 5, marks=pytest.mark.slow),
        pytest.param("AutoencoderKLWan", 1, 9, 15),  # cut within the second block
        pytest.param("AutoencoderKLWan", 2, 13, 19, marks=pytest.mark.slow),
        pytest.param("AutoencoderKLAllegro", 1, 8, 14, marks=pytest.mark.slow),  # no frame alone
    ],
)
def test_every_frame_has_its_own_action(autoencoder: str, n: int, history: int, t: int) -> None:
    vae = VAE(tiny_autoencoder(autoencoder), {})
    k, alone = vae.packing.k, vae.packing.alone
    plan = PLANS.get(autoencoder, "allegro")
    resolved, model = tiny_resolved(plan, frames_per_block=n, window=4 * n), tiny_model(plan)
    apply_surgery(resolved, model, k * A, seed=0)
    world = World(model, resolved, k * A).double().eval()
    randomize_zero_init(world.base)

    generator = torch.Generator().manual_seed(0)
    observed = len([j for j in range(t) if max(led_to(j, k, alone)) < history])
    latents = torch.randn(
        B, observed + 1, world.channels, 4, 4, generator=generator
    )  # one more than is shown
    actions = torch.randn(B, t, A, generator=generator)
    sampling = Sampling(2, guidance=2.0)
    found = torch.cat(list(rollout_frames(world, vae, latents, actions, history, sampling, 7)), 1)

    def packed(j: int) -> torch.Tensor:
        """Actions (b k·a) of a latent frame: of frames after the last, the last one's; of none, zeros."""
        rows = [
            torch.zeros(B, A) if frame < 0 else actions[:, min(frame, t - 1)] for frame in led_to(j, k, alone)
        ]
        return torch.cat(rows, 1)

    expected = ReferenceRollout(world, B, 4, 4, sampling=sampling, seed=7)
    shown = latents[:, :observed]
    expected.observe(shown, torch.stack([packed(j) for j in range(observed)], 1))
    frames, j = [shown.double()], observed
    while max(led_to(j - 1, k, alone)) < t - 1:
        frames.append(expected.step_block(torch.stack([packed(j + i) for i in range(n)], 1)))
        j += n
    decoded = vae.decode(torch.cat(frames, 1).float())[:, history:t]
    assert found.shape == decoded.shape
    torch.testing.assert_close(found, decoded, rtol=0, atol=1e-5)
