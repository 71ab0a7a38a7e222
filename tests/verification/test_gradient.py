import pytest
import torch

from tests.mutations import faults
from v2w_convert.verification.claims import MODEL_FORWARD
from v2w_convert.verification.gradient import gradients
from v2w_convert.verification.inputs import past_seeing
from v2w_convert.world import model
from v2w_convert.world.model import World


def test_unbroken(woken: World) -> None:
    future, past = gradients(woken)
    assert (future.measured, future.where, past.measured) == (0.0, "", 0.0)
    assert "latents, noise_level, actions, text, anchor, told" in future.how


@pytest.mark.parametrize(
    "name",
    [
        "up_blocks.0.resnets.1.temporal_res_block.conv1",
        "down_blocks.0.resnets.0.temporal_res_block.norm2",
        "up_blocks.1.attentions.1.temporal_transformer_blocks.0.attn1",
    ],
)
def test_one_site_that_sees_the_future_is_named(woken: World, name: str) -> None:
    faults.sees_future(woken.sites[name])
    future, _ = gradients(woken)
    assert not future.ok
    assert future.where == name


def test_an_action_that_comes_a_frame_early_is_found(woken: World) -> None:
    faults.acts_early(woken.sites["time_embedding"])
    future, _ = gradients(woken)
    assert not future.ok
    assert future.where == "time_embedding"


def test_a_model_that_forgets_its_past_is_found(woken: World) -> None:
    for name in past_seeing(woken):
        faults.forgets_past(woken.sites[name])
    _, past = gradients(woken)
    assert not past.ok
    assert "frame 0 in output 1" in past.how
    assert past.where == "down_blocks.0.resnets.0.temporal_res_block.conv1"


def test_a_condition_without_a_gradient_is_found(woken: World, monkeypatch: pytest.MonkeyPatch) -> None:
    right = model._per_block

    def cut(value: torch.Tensor, name: str, *rest: object) -> torch.Tensor:
        folded = right(value, name, *rest)  # type: ignore[arg-type]
        return folded.detach() if name == "image_latents" else folded

    monkeypatch.setattr(model, "_per_block", cut)
    _, past = gradients(woken)
    assert not past.ok
    assert "anchor of frame 0 in output 0" in past.how
    assert "text of" not in past.how
    assert past.where == MODEL_FORWARD


def test_the_module_that_lets_no_gradient_through_is_named(woken: World) -> None:
    site = woken.base.get_submodule("time_embedding")
    site.register_forward_hook(lambda module, given, output: output.detach())
    _, past = gradients(woken)
    assert "noise_level of frame 0 in output 0" in past.how
    assert past.where == "time_embedding"


def test_actions_that_no_gradient_reaches_are_found(woken: World) -> None:
    woken.base.get_parameter("time_embedding.v2w_action.first.weight").zero_()
    _, past = gradients(woken)
    assert "actions of frame 1 in output 1" in past.how
    assert "actions of frame 0" not in past.how  # nothing led to the first frame
