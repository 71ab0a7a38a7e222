import pytest
from pydantic import BaseModel, ValidationError

from v2w_convert.evaluation.settings import EvaluateSettings, RolloutSettings
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.onnx_export.settings import ExportSettings

ALL = [FinetuneSettings, EvaluateSettings, RolloutSettings, ExportSettings]


@pytest.mark.parametrize("model", ALL)
def test_every_setting_has_a_default_and_a_description(model: type[BaseModel]) -> None:
    """The command line makes its flags and their help of them."""
    model()
    for name, field in model.model_fields.items():
        assert field.description and not field.is_required(), name
        assert field.description[0].islower() or not field.description.split()[0][1:].islower(), name
        assert not field.description.endswith("."), name


@pytest.mark.parametrize("model", ALL)
def test_settings_are_fixed_and_misspelt_ones_are_refused(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model(), next(iter(model.model_fields)), 3)
    with pytest.raises(ValidationError, match="extra"):
        model.model_validate({"stepz": 3})


def test_a_preset_is_a_default_and_not_more() -> None:
    paper = FinetuneSettings(preset="vid2world", steps=7)
    assert (paper.steps, paper.lr, paper.warmup, paper.ema) == (7, 1e-5, 0.0, "off")
    assert (paper.levels, paper.action_dropout, paper.max_gradient_norm) == ("uniform", 0.2, 0.5)
    assert FinetuneSettings.model_validate(paper.model_dump(mode="json")) == paper
    with pytest.raises(ValidationError, match="preset"):
        FinetuneSettings(preset="vid3world")  # type: ignore[arg-type]


def test_histories_and_lengths_that_do_not_fit_together() -> None:
    with pytest.raises(ValidationError, match="`clean_history` and `self_history` are more than 1"):
        FinetuneSettings(clean_history=0.6, self_history=0.5)
    with pytest.raises(ValidationError, match="`growth_steps` needs `first_frames`"):
        FinetuneSettings(growth_steps=5)
    with pytest.raises(ValidationError, match="`first_frames` 9 is more than `frames` 8"):
        FinetuneSettings(frames=8, first_frames=9)


def test_a_batch_is_computed_in_equal_parts() -> None:
    FinetuneSettings(batch=6, gradient_accumulation=3)
    with pytest.raises(ValidationError, match="`batch` 6 is not a multiple of `gradient_accumulation` 4"):
        FinetuneSettings(batch=6, gradient_accumulation=4)
