"""A part of the action that the model does not read changes nothing; the others do."""

from pathlib import Path
from typing import Any

import pytest
import torch

from v2w_convert.evaluation import context
from v2w_convert.evaluation.context import open_context
from v2w_convert.evaluation.sensitivity import sensitivity
from v2w_convert.evaluation.settings import EvaluateSettings
from v2w_convert.operations.action import ActionEmbedding
from v2w_convert.plan.probe import randomize_zero_init


@pytest.mark.slow
def test_a_number_that_is_not_read_has_no_effect(
    tiny_converted: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = context.open_engine

    def deaf(*args: Any, **options: Any) -> Any:
        """The model as if trained, but its first layer takes nothing from the action's second number."""
        world = opens(*args, **options)
        randomize_zero_init(world.base)
        for module in world.modules():
            if isinstance(module, ActionEmbedding):
                with torch.no_grad():
                    module.first.weight[:, 1] = 0
        return world

    monkeypatch.setattr(context, "open_engine", deaf)
    settings = EvaluateSettings(steps=1, history=2, horizons=(2,), batch=3, device="cpu")
    said: list[str] = []
    found = sensitivity(open_context(tiny_converted, tiny_data, settings), said.append)
    assert list(found.parts) == ["down", "right", "nothing"]
    assert (found.parts["right"].low, found.parts["right"].high) == (0.0, 0.0)
    assert found.parts["down"].mean > 1e-3
    assert found.parts["nothing"].mean == 0  # its standard deviation in the data is 0
    assert found.other_episode.mean > 1e-3 and found.other_noise.mean > 1e-3
    whats = ["other noise", "another episode's actions", *(f"another {name}" for name in found.parts)]
    batches = -(-found.clips // 3)
    assert said == [f"generating with {what}" for what in whats] * batches
