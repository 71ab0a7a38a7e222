import torch

from tests.mutations import faults
from v2w_convert.verification.claims.invariants import measure_invariants
from v2w_convert.verification.engine.models import Models

UNIT = torch.finfo(torch.float16).eps
POSITION = "up_blocks.1.attentions.0.time_proj"
NORM = "mid_block.resnets.1.temporal_res_block.norm1"
CONVS = ("up_blocks.0.resnets.1.temporal_res_block.conv1", "mid_block.resnets.0.temporal_res_block.conv2")


def test_unbroken(models: Models) -> None:
    assert models.base is not None
    claims = measure_invariants(models.base, models.world, UNIT)
    assert all(claim.ok and claim.where for claim in claims)
    kinds = {claim.sentence.split(":")[0] for claim in claims}
    assert kinds == {"action", "causal_attention", "frame_position", "frame_norm", "causal_conv"}


def test_every_site_that_breaks_an_invariant_is_named_the_worst_first(models: Models) -> None:
    assert models.base is not None
    worse, bad = CONVS
    weights = dict(models.world.base.named_parameters())
    weights[f"{worse}.weight"].mul_(2.0)
    weights[f"{bad}.weight"].mul_(1 + 1e-6)
    weights[f"{NORM}.weight"].add_(1.0)
    faults.position_one_too_large(models.world.sites[POSITION])
    found = {
        claim.sentence: claim for claim in measure_invariants(models.base, models.world, UNIT) if not claim.ok
    }
    assert found["causal_conv: equals the base without its future taps"].where == ", ".join(CONVS)
    assert found["frame_position: equals the base's positions"].where == POSITION
    assert found["frame_norm: equals the base on one frame"].where == NORM
    assert found["frame_norm: equals the base on a still clip"].where == NORM
    assert len(found) == 4


def test_a_position_that_ignores_the_start_of_a_clip_is_named(models: Models) -> None:
    assert models.base is not None
    faults.ignores_position_offset(models.world.sites[POSITION])
    broken = [claim for claim in measure_invariants(models.base, models.world, UNIT) if not claim.ok]
    assert [claim.where for claim in broken] == [POSITION]
