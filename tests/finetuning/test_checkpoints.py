import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from v2w_convert.errors import V2WError
from v2w_convert.finetuning import checkpoints
from v2w_convert.finetuning.average import Average
from v2w_convert.finetuning.checkpoints import restore, save
from v2w_convert.finetuning.training import OPTIMIZER, Training


def training(seed: int = 0) -> Training:
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(base.parameters(), lr=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    masters: dict[str, torch.Tensor] = dict(base.named_parameters())
    return Training(base, masters, Average(masters, 0.9), optimizer, schedule, None)


def advance(of: Training, steps: range) -> None:
    for step in steps:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        of.base(x).pow(2).mean().backward()
        of.step()


def everything(of: Training) -> list[Any]:
    tensors = [*of.base.state_dict().values(), *of.averaged().values(), *of.state()[OPTIMIZER].values()]
    rates = [group["lr"] for group in of.optimizer.param_groups]
    return [
        *(tensor.tolist() for tensor in tensors),
        *(of.schedule.last_epoch, of.schedule.get_last_lr(), rates, of.average and of.average.steps),
    ]


def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path) -> None:
    unbroken, again = training(), training(seed=1)
    advance(unbroken, range(5))
    save(tmp_path, 5, unbroken, keep=2)
    assert restore(tmp_path, again) == 5
    assert everything(again) == everything(unbroken)
    advance(unbroken, range(5, 8))
    advance(again, range(5, 8))
    assert everything(again) == everything(unbroken)


def test_the_average_is_of_parameters_and_buffers_are_as_they_are(tmp_path: Path) -> None:
    one = training()
    advance(one, range(5))
    save(tmp_path, 5, one, keep=1)
    model, average = (load_file(tmp_path / f"step-5/{name}.safetensors") for name in ("model", "average"))
    parameters = dict(one.base.named_parameters())
    assert model.keys() == average.keys() > parameters.keys()
    for name in model:
        assert torch.equal(model[name], average[name]) == (name not in parameters), name


def test_the_newest_stay(tmp_path: Path) -> None:
    one = training()
    for step in (5, 10, 100):
        save(tmp_path, step, one, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-100"]


def test_none_is_deleted_before_the_next_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = training()
    save(tmp_path, 5, one, keep=1)
    for name in ("write_tensors", "sha256", "require_room"):
        with monkeypatch.context() as patch:

            def fail(*args: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(checkpoints, name, fail)
            with pytest.raises(KeyboardInterrupt):
                save(tmp_path, 6, one, keep=1)
        assert [path.name for path in tmp_path.iterdir()] == ["step-5"]
        assert restore(tmp_path, training()) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "unhashed", "emptied"])
@pytest.mark.parametrize("file", ["model.safetensors", "average.safetensors", "optimizer.safetensors"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    damage: str, file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = training()
    advance(one, range(5))
    save(tmp_path, 5, one, keep=2)
    at_five = everything(one)
    advance(one, range(5, 6))
    save(tmp_path, 6, one, keep=2)
    target = tmp_path / "step-6" / file
    content = target.read_bytes()
    if damage == "cut":
        target.write_bytes(content[:-1])
    elif damage == "flipped":
        target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        target.unlink()
    elif damage == "unhashed":
        (tmp_path / "step-6/sha256.json").write_text("{}")
    else:
        shutil.rmtree(tmp_path / "step-6")
        (tmp_path / "step-6").mkdir()
    again = training(seed=1)
    with caplog.at_level(logging.WARNING):
        assert restore(tmp_path, again) == 5
    assert everything(again) == at_five
    assert "step-6 is damaged" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-5", "step-6.damaged"]
    save(tmp_path, 6, again, keep=2)  # its name is free again
    assert restore(tmp_path, training()) == 6


def test_without_a_checkpoint_training_begins_at_the_beginning(tmp_path: Path) -> None:
    one = training()
    before = everything(one)
    assert restore(tmp_path, one) == 0
    assert everything(one) == before


def test_the_loss_scaler_goes_on(tmp_path: Path) -> None:
    """Where mixed precision is fp16."""
    scalers = [torch.amp.GradScaler("cpu", init_scale=scale) for scale in (4096.0, 1.0)]
    one, again = (replace(training(), scaler=scaler) for scaler in scalers)
    advance(one, range(5))
    scalers[0].load_state_dict({**scalers[0].state_dict(), "scale": 512.0, "_growth_tracker": 7})
    save(tmp_path, 5, one, keep=1)
    assert restore(tmp_path, again) == 5
    assert scalers[1].state_dict() == {**scalers[0].state_dict(), "scale": 512.0, "_growth_tracker": 7}


def test_a_whole_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    other = replace(training(), base=nn.Linear(3, 4))
    save(tmp_path, 5, training(), keep=1)
    with pytest.raises(V2WError, match=r"resume from .*step-5/model.safetensors: .* is unknown"):
        restore(tmp_path, other)


def test_a_checkpoint_after_the_last_step_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 5, training(), keep=1)
    with pytest.raises(V2WError, match="resume from .*step-5: the run has 4 steps"):
        restore(tmp_path, training(), last=4)
