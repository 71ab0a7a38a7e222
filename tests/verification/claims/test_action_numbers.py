from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.cli.commands import refused
from tests.mutations import faults
from v2w_convert.errors import V2WError
from v2w_convert.surgery.action_statistics import ActionStatistics, recorded_actions
from v2w_convert.surgery.load import open_converted
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims.action_numbers import measure_heeded, measure_scaled
from v2w_convert.verification.engine.models import Models
from v2w_convert.world.model import World

SITE = "time_embedding"
RECORD: dict[str, Any] = {
    "count": 9,
    "mean": [0.5, -1.0, 3.0],
    "std": [0.25, 2.0, 0.0],
    "min": [0.0, -4.0, 3.0],
    "max": [1.0, 4.0, 3.0],
}
STATISTICS = ActionStatistics(**RECORD)


def deaf(world: World, statistics: ActionStatistics | None = None, most: int = 32) -> str:
    claim = measure_heeded(world, statistics, "randomised", most)
    assert claim.ok == (claim.where == "")
    return claim.where


def columns_zero(world: World, *numbers: int) -> None:
    world.base.get_submodule(f"{SITE}.v2w_action.first").weight[:, list(numbers)] = 0  # type: ignore[operator,index]


def test_every_number_of_a_randomised_model_is_heeded(randomized: World) -> None:
    assert deaf(randomized) == deaf(randomized, STATISTICS) == ""


def test_before_training_no_number_is(models: Models) -> None:
    assert deaf(models.world) == "action number 0, action number 1, action number 2"


def test_numbers_without_weights_are_named(randomized: World) -> None:
    columns_zero(randomized, 0, 2)
    assert deaf(randomized) == "action number 0, action number 2"
    assert deaf(randomized, STATISTICS) == "action number 0"  # the last one never changes in the data


def test_a_number_that_the_program_ignores_is_named(randomized: World) -> None:
    faults.ignores_number(1)(randomized.sites[SITE])
    assert deaf(randomized) == "action number 1"


@pytest.mark.parametrize(
    ("numbers", "where"), [((1,), "action number 1"), ((0, 1), "action number 0, action number 1")]
)
def test_numbers_that_are_divided_by_too_much_are_named(
    randomized: World, numbers: tuple[int, ...], where: str
) -> None:
    randomized.base.get_buffer(f"{SITE}.v2w_action.scale")[list(numbers)] = 1e8
    assert deaf(randomized, STATISTICS) == where
    assert deaf(randomized) == ""  # where the data's deviation is not known, the model's is believed


def test_large_actions_are_sampled(randomized: World) -> None:
    claim = measure_heeded(randomized, None, "randomised", 2)
    assert claim.ok and "of 2 of 3" in claim.how


Rewritten = Callable[..., Path]


def scaled(folder: Path) -> Claim:
    manifest, source, resolved = open_converted(folder)
    return measure_scaled(source, resolved, manifest)


@pytest.mark.parametrize(
    ("name", "values", "broken"),
    [
        ("scale", [0.25, 2.0, 1.0], False),
        ("scale", [1e4, 1e4, 1e4], True),
        ("scale", [0.25, 2.0, 0.0], True),
        ("center", [0.5, -1.0, 3.5], True),
    ],
)
def test_centre_and_scale_are_those_of_the_recorded_data(
    rewritten: Rewritten, name: str, values: list[float], broken: bool
) -> None:
    right = {"center": RECORD["mean"], "scale": [0.25, 2.0, 1.0]} | {name: values}

    def change(tensors: dict[str, Tensor]) -> None:
        for key, value in right.items():
            if (tensor := f"{SITE}.v2w_action.{key}") in tensors:
                tensors[tensor] = torch.tensor(value).to(tensors[tensor].dtype)

    later = {"steps": 1, "actions": RECORD | {"mean": [9.0, 9.0, 9.0]}, "before": {"actions": RECORD}}
    claim = scaled(rewritten(change, stage="finetuned", finetuning=later))
    assert claim.status == ("fails" if broken else "holds"), claim
    assert claim.where == (f"{SITE}.v2w_action.{name}" if broken else "")


def test_a_record_without_statistics_shows_what_the_model_has(rewritten: Rewritten) -> None:
    claim = scaled(rewritten(stage="finetuned", finetuning={"steps": 1}))
    assert claim.status == "not measured"
    assert "kept no statistics of the actions; the model's own: center 0, 0, 0; scale 1, 1, 1" in claim.how


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (RECORD | {"std": [1.0]}, "1 numbers of actions of 3"),
        (RECORD | {"std": ["x", 1.0, 1.0]}, "std.0"),
        ({"count": 1}, "mean"),
        (7, "ActionStatistics"),
    ],
)
def test_a_record_that_is_no_statistics_is_refused(
    rewritten: Rewritten, wrong: Any, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rewritten(stage="finetuned", finetuning={"steps": 1, "actions": wrong})
    with pytest.raises(V2WError, match=found):
        recorded_actions(read_manifest(folder))
    assert found in refused(capsys, "verify", folder)
