"""From where a run is resumed. A checkpoint appears whole or not at all, and is checked before it is used."""

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import Tensor, nn

from v2w_convert.checkpoint.headers import DTYPES, read_header
from v2w_convert.checkpoint.listing import first
from v2w_convert.checkpoint.output import sha256, staging_folder
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object
from v2w_convert.world.experts import LevelRange
from v2w_convert.world.finite import is_finite

HASHES = "sha256.json"
MODEL, AVERAGE, OPTIMIZER = "model.safetensors", "average.safetensors", "optimizer.safetensors"
NAME = re.compile(r"step-([1-9]\d{0,8})", re.ASCII)
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW, of each parameter
SCALE, GROWTH = "scaler/scale", "scaler/growth"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """All that changes while a model is trained. There is no random state: see `batches`.

    Attributes:
        base: The denoiser with its changed sites, float32; or both denoisers.
        average: Exponential moving average of the base's parameters, in their order.
        optimizer: AdamW, as accelerate prepared it.
        schedule: The learning rate's schedule, a function of the step.
        scaler: The loss scaler, where mixed precision is fp16.
        levels: The range of the one expert that is trained, where there are two; it does not change.
    """

    base: nn.Module
    average: EMAModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: Any | None
    levels: LevelRange | None = None

    def averaged(self) -> dict[str, Tensor]:
        """Return the base's tensors by name: averaged parameters, and its buffers as they are."""
        return self.base.state_dict() | dict(zip(self._names, self.average.shadow_params, strict=True))

    def moments(self) -> dict[str, Tensor]:
        """Return the optimizer's state, as `MOMENT/PARAMETER`, and the loss scaler's."""
        state = self.optimizer.state_dict()["state"]
        found = {
            f"{key}/{self._names[i]}": value for i, entry in state.items() for key, value in entry.items()
        }
        if self.scaler is not None:
            said = self.scaler.state_dict()
            found[SCALE] = torch.tensor(said["scale"], dtype=torch.float64)
            found[GROWTH] = torch.tensor(said["_growth_tracker"])
        return found

    def load(self, folder: Path, step: int) -> None:
        """Load the checkpoint of `step` in `folder`.

        Raises:
            V2WError: It is not one of this model. Nothing has changed then.
        """
        own = self.base.state_dict()
        written = read_header(folder / OPTIMIZER)
        moments = {  # of an expert that no step has asked there are none
            f"{key}/{name}": torch.empty(() if key == "step" else value.shape, device="meta")
            for name, value in self.base.named_parameters()
            for key in MOMENTS
            if f"step/{name}" in written
        }
        scaler = self.scaler.state_dict() if self.scaler is not None else {}
        scales = {
            SCALE: torch.empty((), dtype=torch.float64, device="meta"),
            GROWTH: torch.empty((), dtype=torch.int64, device="meta"),
        }
        weights, averaged = _read(folder / MODEL, own), _read(folder / AVERAGE, own)
        state = _read(folder / OPTIMIZER, moments | (scales if scaler else {}))
        self.base.load_state_dict(weights)
        for name, shadow in zip(self._names, self.average.shadow_params, strict=True):
            shadow.copy_(averaged[name])
        entries = {
            i: {key: state[f"{key}/{name}"] for key in MOMENTS}
            for i, name in enumerate(self._names)
            if f"step/{name}" in state
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": entries})
        self.average.optimization_step = step
        self._set_rate(step)
        if scaler:
            told = {"scale": state[SCALE].item(), "_growth_tracker": int(state[GROWTH])}
            self.scaler.load_state_dict(scaler | told)  # type: ignore[union-attr]

    def _set_rate(self, step: int) -> None:
        """Set the learning rate as after so many steps."""
        schedule = self.schedule
        rates = [rate * of(step) for rate, of in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule.last_epoch, schedule._step_count, schedule._last_lr = step, step + 1, rates

    @property
    def _names(self) -> list[str]:
        return [name for name, _ in self.base.named_parameters()]


def save(folder: Path, step: int, training: Training, keep: int) -> None:
    """Write the checkpoint `folder`/step-N; then, and only then, delete all but the newest `keep`."""
    with staging_folder(folder / f"step-{step}") as stage:
        save_file(_plain(training.base.state_dict()), stage / MODEL)
        save_file(_plain(training.averaged()), stage / AVERAGE)
        save_file(_plain(training.moments()), stage / OPTIMIZER)
        hashes = {name: sha256(stage / name) for name in (MODEL, AVERAGE, OPTIMIZER)}
        (stage / HASHES).write_text(json.dumps(hashes, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for old in list(_by_step(folder).values())[:-keep]:
        # Renamed first, so that one that is half deleted is not taken for a damaged one.
        shutil.rmtree(old.rename(folder / f".{old.name}"))


def restore(folder: Path, training: Training, last: int | None = None) -> int:
    """Load the newest checkpoint in `folder` that is as it was written.

    Damaged ones are renamed to step-N.damaged, with a warning.

    Args:
        folder: The checkpoints.
        training: What is set.
        last: The run's last step; None: it is not known.

    Returns:
        The step of the checkpoint; 0 if there is none.

    Raises:
        V2WError: It is as it was written, but of another model, of a step after the run's last, or of an earlier v2w.
    """
    for step, checkpoint in reversed(_by_step(folder).items()):
        if (checkpoint / "state.pt").exists() and not (checkpoint / OPTIMIZER).exists():
            raise V2WError(
                f"resume from {checkpoint}", "an earlier version of v2w wrote it", "that one, or a new folder"
            )
        if fault := _damage(checkpoint):
            log.warning("%s is damaged (%s) and is not used", checkpoint, fault)
            aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            continue
        if last is not None and step > last:
            raise V2WError(f"resume from {checkpoint}", f"the run has {last} steps", "a new folder")
        training.load(checkpoint, step)
        return step
    return 0


def _by_step(folder: Path) -> dict[int, Path]:
    """Checkpoints, oldest first."""
    found = [match for path in folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
    return {step: folder / f"step-{step}" for step in sorted(int(match[1]) for match in found)}


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None if nothing is."""
    try:
        hashes = read_object(checkpoint / HASHES)
        for name in (MODEL, AVERAGE, OPTIMIZER):
            if not (checkpoint / name).is_file():  # opening a FIFO would wait for ever
                return f"{name} is not there"
            if sha256(checkpoint / name) != hashes.get(name):
                return f"{name} is not what was written"
    except V2WError as error:
        return error.found
    except OSError as error:
        return str(error)
    return None


def _read(file: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in a file: those of `like`, which has their shapes and dtypes.

    Raises:
        V2WError: It holds others, or numbers that are not finite.
    """
    header = read_header(file)
    faults = [f"{name} is missing" for name in like.keys() - header.keys()]
    faults += [f"{name} is unknown" for name in header.keys() - like.keys()]
    for name in like.keys() & header.keys():
        found = f"{DTYPES[header[name].dtype].torch} {header[name].shape}"
        wanted = f"{str(like[name].dtype).removeprefix('torch.')} {tuple(like[name].shape)}"
        if found != wanted:
            faults.append(f"{name} is {found}, not {wanted}")
    if not faults:
        values = {name: read_tensor(info) for name, info in header.items()}
        faults = [f"{name} has numbers that are not finite" for name, x in values.items() if not is_finite(x)]
    if faults:
        raise V2WError(f"resume from {file}", first(sorted(faults), 3), "a new folder")
    return values


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors wants them."""
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
