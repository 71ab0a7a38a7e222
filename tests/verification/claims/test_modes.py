from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.mutations import faults
from tests.mutations.faults import Fault
from tests.mutations.faults.rarely import When
from v2w_convert.surgery.load import open_converted
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims.modes import Mode, entered, measure_modes
from v2w_convert.verification.engine.budget import Budget
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import begin_training
from v2w_convert.world.model import World

CONV = "up_blocks.0.resnets.1.temporal_res_block.conv1"
CLAIMS = ("causal-modes", "sites-receptive-field-modes", "stream-modes", "training-equal")
Measure = Callable[..., dict[str, Claim]]


@pytest.fixture
def measure(tiny_converted: Path) -> Measure:
    """The claims of the model in float32 and whatever else it runs in, with a fault at one convolution."""

    def claims(fault: Fault | None = None, when: When | None = None, large: bool = False) -> dict[str, Claim]:
        model = open_converted(tiny_converted)
        context = VerifyContext(
            tiny_converted, model.source, None, model.resolved, model.manifest, Budget(None), large=large
        )
        broken = (lambda site: None) if fault is None else fault if when is None else faults.only(fault, when)
        with faults.broken(faults.at(CONV, broken)):
            begin_training(context)
            return {claim.id: claim for claim in measure_modes(context)}

    return claims


def test_an_unbroken_model_in_every_dtype_and_mode(measure: Measure) -> None:
    found = measure()
    assert tuple(found) == CLAIMS
    assert {claim.status for claim in found.values()} == {"holds"}
    for name in ("causal-modes", "training-equal", "sites-receptive-field-modes"):
        assert found[name].measured == 0
    for mode in ("float32, training, checkpointing", "float32, training, autocast to bfloat16"):
        assert mode in found["training-equal"].how
    for dtype in ("float32", "bfloat16", "float16"):
        assert f"{dtype}, " in found["stream-modes"].how


def test_of_a_large_model_float32_is_measured(measure: Measure) -> None:
    found = measure(large=True)
    assert found["sites-receptive-field-modes"].status == "not measured"
    for name in ("causal-modes", "stream-modes", "training-equal"):
        assert found[name].status == "holds"
        assert "float32, " in found[name].how and "; float16" not in found[name].how


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "when", "expected"),
    [
        (faults.sees_future, faults.computing_in(torch.float32), "causal-modes"),
        (faults.sees_future, faults.under_autocast(torch.bfloat16), "causal-modes"),
        (faults.forgets_past, faults.computing_in(torch.float32), "sites-receptive-field-modes"),
        (faults.state_shifted, faults.computing_in(torch.float16), "stream-modes"),
        (faults.differs_in_training, faults.in_training(gradients=True), "training-equal"),
    ],
)
def test_a_fault_of_one_dtype_or_mode_is_found_and_its_site_named(
    measure: Measure, fault: Fault, when: When, expected: str
) -> None:
    found = measure(fault, when)
    assert not found[expected].ok
    assert found[expected].where == CONV
    assert "; broken in " in found[expected].how


def test_a_mode_ends_as_it_began(randomized: World) -> None:
    world = randomized.float()
    with pytest.raises(ZeroDivisionError), entered(world, Mode(True, True, True, torch.bfloat16)):
        assert world.training and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        raise ZeroDivisionError
    assert not world.training and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    assert not any(getattr(module, "gradient_checkpointing", False) for module in world.base.modules())
