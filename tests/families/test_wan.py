import torch

from tests.tiny import tiny_folded
from v2w_convert.verification.engine.exact import exact


@torch.no_grad()
def test_a_level_per_frame_equals_wan_22s_timestep_per_token() -> None:
    """Wan 2.2 TI2V keeps a given first frame clean by a timestep for every token; a world does the same per frame."""
    with exact():
        world, base = (model.double() for model in tiny_folded("wan"))
        latents = torch.randn(2, 3, 4, 4, 8, dtype=torch.float64)
        level = torch.rand(2, 3)
        level[:, 0] = 0
        tokens = (4 // 2) * (8 // 2)
        timestep = world.noise.timestep(level).repeat_interleave(tokens, 1)
        text = torch.randn(2, 512, world.resolved.plan.tiny["text_dim"], dtype=torch.float64)
        [expected] = base(latents.movedim(1, 2), timestep, text, return_dict=False)
        found = world(latents, level, bidirectional=True, text=text)
        expected = expected.movedim(2, 1)
    assert float((found - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
    one = world(latents, level[:, :1].expand(2, 3), bidirectional=True, text=text)
    assert not torch.allclose(one, expected, atol=1e-3)
