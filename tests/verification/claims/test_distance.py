import json
import math

import pytest
import torch

from tests.mutations import faults
from v2w_convert.operations import CausalConv, FrameNorm
from v2w_convert.verification.claims.distance import measure_distance, record_base
from v2w_convert.verification.engine.context import BaseOutputs
from v2w_convert.verification.engine.models import Models
from v2w_convert.verification.report.distance_png import draw_distance

CONV = "down_blocks.0.resnets.0.temporal_res_block.conv1"


@pytest.fixture
def recorded(models: Models) -> BaseOutputs:
    assert models.base is not None
    before = {name: x.clone() for name, x in models.base.state_dict().items()}
    kinds = {name: type(module) for name, module in models.base.named_modules()}
    found = record_base(models.base, models.world.resolved, models.world.action_dim)
    assert all(torch.equal(x, before[name]) for name, x in models.base.state_dict().items())
    assert kinds == {name: type(module) for name, module in models.base.named_modules()}  # and not folded
    return found


def test_every_frame_level_and_site_has_a_number(models: Models, recorded: BaseOutputs) -> None:
    claim, figure = measure_distance(models.world, recorded)
    assert claim.ok  # whatever it is
    assert len(figure["noise_levels"]) == len(figure["frames"]) == 4
    assert figure["noise_levels"] == sorted(figure["noise_levels"])
    numbers = torch.tensor(figure["frames"])
    assert numbers.shape == (4, 7)
    assert (numbers > 0).all()
    assert claim.measured == pytest.approx(float(numbers.mean()))
    sites = models.world.resolved.sites
    # Positions receive indices, no floating numbers; the action is not the base's.
    assert figure["sites"].keys() == {
        n for n, op in sites.items() if op.name not in ("action", "frame_position")
    }
    assert all(number > 0 for number in figure["sites"].values())
    assert claim.where.split(", ")[0] == max(figure["sites"], key=figure["sites"].get)
    json.dumps(figure, allow_nan=False)


def test_a_world_in_the_bidirectional_form_has_no_distance(models: Models, recorded: BaseOutputs) -> None:
    """With the base's own weights: it is not the measurement that tells them apart."""
    assert models.base is not None
    weights = models.base.state_dict()
    models.world.base.load_state_dict(weights, strict=False)
    for site in models.world.sites.values():
        faults.sees_future(site)
    claim, figure = measure_distance(models.world, recorded)
    assert claim.measured is not None
    assert claim.measured < 1e-12
    assert max(figure["sites"].values()) < 1e-12


def test_one_broken_site_is_the_worst(models: Models, recorded: BaseOutputs) -> None:
    models.world.base.get_parameter(f"{CONV}.weight").mul_(100)
    claim, figure = measure_distance(models.world, recorded)
    assert claim.where.split(", ")[0] == CONV
    assert figure["sites"][CONV] > 10


def test_nan_becomes_null(models: Models, recorded: BaseOutputs) -> None:
    models.world.base.get_parameter(f"{CONV}.weight").fill_(math.nan)
    claim, figure = measure_distance(models.world, recorded)
    assert figure["sites"][CONV] is None
    assert figure["frames"][0][0] is None
    assert claim.as_json()["measured"] is None
    assert claim.where.split(", ")[0] == CONV
    json.dumps(figure, allow_nan=False)
    assert draw_distance(figure).shape[2] == 3


def test_convolutions_have_a_larger_distance_than_norms(models: Models, recorded: BaseOutputs) -> None:
    """Masked convolutions lose a third of their taps; norms on a clip that moves have about a frame's statistics."""
    _, figure = measure_distance(models.world, recorded)
    sites = models.world.resolved.sites
    mean = {
        kind: sum(chosen) / len(chosen)
        for kind in (CausalConv, FrameNorm)
        if (chosen := [x for name, x in figure["sites"].items() if isinstance(sites[name], kind)])
    }
    assert mean[FrameNorm] < mean[CausalConv]


def test_the_picture_has_a_cell_for_each_number() -> None:
    sites = {f"blocks.{i}.attn": 0.1 * i for i in range(4)} | {"conv": 1.5, "bad": None}
    figure = {"noise_levels": [1.0, 500.0], "frames": [[0.0, 0.5, None], [0.2, 0.3, 1.2]], "sites": sites}
    picture = draw_distance(figure)
    assert picture.dtype == "uint8"
    longer = draw_distance(figure | {"noise_levels": [1.0, 2.0, 500.0], "frames": [[0.0, 0.5, 1.0]] * 3})
    assert longer.shape[0] > picture.shape[0]
