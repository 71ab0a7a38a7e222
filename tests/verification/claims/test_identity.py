import pytest

from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.verification.claims.identity import measure_identity
from v2w_convert.verification.engine.models import Models
from v2w_convert.world import model


def test_unbroken(models: Models) -> None:
    assert models.base is not None
    randomize_zero_init(models.base)
    claim = measure_identity(models.base, models.world)
    assert claim.ok
    assert claim.measured is not None
    assert claim.measured < 1e-13
    assert claim.where == ""


def test_conditions_given_to_the_wrong_frames(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.base is not None
    randomize_zero_init(models.base)
    right = model.fold_condition
    monkeypatch.setattr(model, "fold_condition", lambda *args: right(*args).roll(1, 0))
    claim = measure_identity(models.base, models.world)
    assert not claim.ok
    assert claim.where == "conv_in"
