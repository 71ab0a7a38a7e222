from dataclasses import replace

from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.verification.claims.coverage import base_sites, measure_coverage, measure_family_coverage
from v2w_convert.verification.engine.models import Models

LOST = (
    "up_blocks.0.resnets.1.temporal_res_block.conv1",
    "mid_block.attentions.0.temporal_transformer_blocks.0.attn1",
)


def test_every_site_that_is_left_out_is_named(models: Models) -> None:
    assert models.base is not None
    randomize_zero_init(models.base)
    sites, resolved = base_sites(models.base, models.world), models.world.resolved
    assert measure_coverage(sites, resolved).ok
    lost = replace(resolved, sites={n: op for n, op in resolved.sites.items() if n not in LOST})
    assert set(measure_coverage(sites, lost).where.split(", ")) == set(LOST)


def test_every_site_of_the_base_leaks_some_of_a_later_frame(models: Models) -> None:
    assert models.base is not None
    randomize_zero_init(models.base)
    mixing = {
        name
        for name, op in models.world.resolved.sites.items()
        if op.name not in ("action", "frame_position")
    }
    leak = {site.name: site.leak for site in base_sites(models.base, models.world)}
    assert leak.keys() == mixing
    assert min(leak.values()) > 0


def test_without_the_base_a_missing_rule_still_shows(models: Models) -> None:
    resolved = models.world.resolved
    assert measure_family_coverage(resolved).ok
    rest = tuple(op for op in resolved.plan.operations if op.name != "causal_conv")
    without = replace(resolved, plan=resolved.plan.model_copy(update={"operations": rest}))
    assert LOST[0] in measure_family_coverage(without).where.split(", ")
