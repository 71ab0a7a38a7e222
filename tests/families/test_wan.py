import torch

from v2w_convert.families.build import build_model
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.model import World


@torch.no_grad()
def test_a_level_for_each_frame_is_what_wan_22_is_told_for_each_token() -> None:
    """Wan 2.2 TI2V keeps a given first frame clean by telling every token its own level; a world model does no other."""
    plan = read_plan(shipped_plans()["wan"])
    torch.manual_seed(0)
    with exact():
        base, folded = (build_model(plan.base, plan.tiny).eval().double() for _ in range(2))
        randomize_zero_init(base)
        folded.load_state_dict(base.state_dict())
        resolved = resolve(plan, plan.tiny)
        apply_surgery(resolved, folded, 3, seed=0)
        world = World(folded, resolved, 3, resolved.call.null_conditions()).double()
        latents = torch.randn(2, 3, 4, 4, 8, dtype=torch.float64)
        level = torch.rand(2, 3)
        level[:, 0] = 0
        tokens = (4 // 2) * (8 // 2)
        told = world.noise.timestep(level).repeat_interleave(tokens, 1)
        text = torch.randn(2, 512, plan.tiny["text_dim"], dtype=torch.float64)
        [expected] = base(latents.movedim(1, 2), told, text, return_dict=False)
        found = world(latents, level, bidirectional=True, text=text)
        expected = expected.movedim(2, 1)
    assert float((found - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
    one = world(latents, level[:, :1].expand(2, 3), bidirectional=True, text=text)
    assert not torch.allclose(one, expected, atol=1e-3)
