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


def test_a_batch_is_computed_in_equal_parts() -> None:
    FinetuneSettings(batch=6, gradient_accumulation=3)
    with pytest.raises(ValidationError, match="`batch` 6 is not a multiple of `gradient_accumulation` 4"):
        FinetuneSettings(batch=6, gradient_accumulation=4)
