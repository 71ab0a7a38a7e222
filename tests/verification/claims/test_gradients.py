import pytest
import torch

from tests.mutations import faults
from v2w_convert.verification.claim import MODEL_FORWARD
from v2w_convert.verification.claims.gradients import measure_gradients
from v2w_convert.verification.engine.inputs import sites_with_past
from v2w_convert.world import model
from v2w_convert.world.model import World


def test_unbroken(randomized: World) -> None:
    future, past = measure_gradients(randomized)
    assert (future.measured, future.where, past.measured) == (0.0, "", 0.0)
    assert "latents, noise_level, actions, text, image_latents, added_time_ids" in future.how


@pytest.mark.parametrize(
    "name",
    [
        "up_blocks.0.resnets.1.temporal_res_block.conv1",
        "down_blocks.0.resnets.0.temporal_res_block.norm2",
        "up_blocks.1.attentions.1.temporal_transformer_blocks.0.attn1",
    ],
)
def test_one_site_that_sees_the_future_is_named(randomized: World, name: str) -> None:
    faults.sees_future(randomized.sites[name])
    future, _ = measure_gradients(randomized)
    assert not future.ok
    assert future.where == name


def test_an_action_that_comes_a_frame_early_is_found(randomized: World) -> None:
    faults.action_one_frame_early(randomized.sites["time_embedding"])
    future, _ = measure_gradients(randomized)
    assert not future.ok
    assert future.where == "time_embedding"


def test_a_model_that_forgets_its_past_is_found(randomized: World) -> None:
    for name in sites_with_past(randomized):
        faults.forgets_past(randomized.sites[name])
    _, past = measure_gradients(randomized)
    assert not past.ok
    assert "frame 0 in output 1" in past.how
    assert past.where == "down_blocks.0.resnets.0.temporal_res_block.conv1"


def test_a_condition_without_a_gradient_is_found(randomized: World, monkeypatch: pytest.MonkeyPatch) -> None:
    right = model.fold_condition

    def cut(value: torch.Tensor, name: str, *rest: object) -> torch.Tensor:
        folded = right(value, name, *rest)  # type: ignore[arg-type]
        return folded.detach() if name == "image_latents" else folded

    monkeypatch.setattr(model, "fold_condition", cut)
    _, past = measure_gradients(randomized)
    assert not past.ok
    assert "image_latents of frame 0 in output 0" in past.how
    assert "text of" not in past.how
    assert past.where == MODEL_FORWARD


def test_the_module_that_lets_no_gradient_through_is_named(randomized: World) -> None:
    site = randomized.base.get_submodule("time_embedding")
    site.register_forward_hook(lambda module, given, output: output.detach())
    _, past = measure_gradients(randomized)
    assert "noise_level of frame 0 in output 0" in past.how
    assert past.where == "time_embedding"


def test_actions_that_no_gradient_reaches_are_found(randomized: World) -> None:
    randomized.base.get_parameter("time_embedding.v2w_action.first.weight").zero_()
    _, past = measure_gradients(randomized)
    assert "actions of frame 1 in output 1" in past.how
    assert "actions of frame 0" not in past.how  # nothing led to the first frame
