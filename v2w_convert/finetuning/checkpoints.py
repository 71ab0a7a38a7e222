"""From where a run is resumed. A checkpoint appears whole or not at all, and is checked before it is used."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from v2w_convert.checkpoint.output import sha256, staging_folder
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object
from v2w_convert.world.experts import LevelRange

HASHES = "sha256.json"
MODEL, AVERAGE, STATE = "model.safetensors", "average.safetensors", "state.pt"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """All that changes while a model is trained. There is no random state: see `batches`.

    Attributes:
        base: The denoiser with its changed sites, float32; or both denoisers.
        average: Exponential moving average of the base's parameters, in their order.
        optimizer: The optimizer, as accelerate prepared it.
        schedule: The learning rate's schedule.
        scaler: The loss scaler, where mixed precision is fp16.
        levels: The range of the one expert that is trained, where there are two; it does not change.
    """

    base: nn.Module
    average: EMAModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: Any | None
    levels: LevelRange | None = None

    def averaged(self) -> dict[str, Tensor]:
        """Return the base's tensors by name: averaged parameters, and its buffers as they are."""
        names = [name for name, _ in self.base.named_parameters()]
        return self.base.state_dict() | dict(zip(names, self.average.shadow_params, strict=True))

    def state(self) -> dict[str, Any]:
        """Return the state beside the weights: only tensors, numbers and nests of them."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averaged_steps": self.average.optimization_step,
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
        }

    def load(self, folder: Path) -> None:
        """Load the checkpoint in `folder`."""
        self.base.load_state_dict(load_file(folder / MODEL))
        averaged = load_file(folder / AVERAGE)
        for (name, _), shadow in zip(self.base.named_parameters(), self.average.shadow_params, strict=True):
            shadow.copy_(averaged[name])
        state = torch.load(folder / STATE, weights_only=True, map_location="cpu")
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.optimization_step = state["averaged_steps"]
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])


def save(folder: Path, step: int, training: Training, keep: int) -> None:
    """Write the checkpoint `folder`/step-N; then, and only then, delete all but the newest `keep`."""
    with staging_folder(folder / f"step-{step}") as stage:
        save_file(_plain(training.base.state_dict()), stage / MODEL)
        save_file(_plain(training.averaged()), stage / AVERAGE)
        torch.save(training.state(), stage / STATE)
        hashes = {name: sha256(stage / name) for name in (MODEL, AVERAGE, STATE)}
        (stage / HASHES).write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
    for old in list(_by_step(folder).values())[:-keep]:
        # Renamed first, so that one that is half deleted is not taken for a damaged one.
        shutil.rmtree(old.rename(folder / f".{old.name}"))


def restore(folder: Path, training: Training) -> int:
    """Load the newest checkpoint in `folder` that is as it was written.

    Damaged ones are renamed to step-N.damaged, with a warning.

    Returns:
        The step of the checkpoint; 0 if there is none.
    """
    for step, checkpoint in reversed(_by_step(folder).items()):
        if fault := _damage(checkpoint):
            log.warning("%s is damaged (%s) and is not used", checkpoint, fault)
            aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            continue
        training.load(checkpoint)
        return step
    return 0


def _by_step(folder: Path) -> dict[int, Path]:
    """Checkpoints, oldest first."""
    names = [path.name.removeprefix("step-") for path in folder.glob("step-*")]
    return {step: folder / f"step-{step}" for step in sorted(int(name) for name in names if name.isdecimal())}


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None if nothing is."""
    try:
        hashes = read_object(checkpoint / HASHES)
        for name in (MODEL, AVERAGE, STATE):
            if sha256(checkpoint / name) != hashes.get(name):
                return f"{name} is not what was written"
    except V2WError as error:
        return error.found
    except OSError as error:
        return str(error)
    return None


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors wants them."""
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
