"""All that changes while a model is trained: weights, optimizer, average. There is no random state: see `batches`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.finetuning.average import Average
from v2w_convert.finetuning.memory_settings import MemorySettings
from v2w_convert.finetuning.optimizers import fill_states, lay_out_states, state_tensors
from v2w_convert.finetuning.processes import set_values
from v2w_convert.surgery.load import read_finite
from v2w_convert.world.experts import LevelRange

CHUNK = 2**26  # numbers whose float32 gradients exist at once, beside the gradients of bfloat16 weights
SCALE, GROWTH = "scaler/scale", "scaler/growth"
MODEL, AVERAGE, OPTIMIZER = "model.safetensors", "average.safetensors", "optimizer.safetensors"


@dataclass(frozen=True)
class Training:
    """What is trained, and what is kept for it.

    Attributes:
        base: The denoiser with its changed sites; or both denoisers.
        masters: What the optimizer steps, by the names of the parameters that are trained: float32; the parameter itself,
            or a copy where that is bfloat16 or the optimizer's state is on another device.
        average: Of the masters; None: none is kept.
        optimizer: Of the masters, as accelerate prepared it.
        schedule: The learning rate's schedule, a function of the step.
        scaler: The loss scaler, where mixed precision is fp16.
        levels: The range of the one expert that is trained, where there are two; it does not change.
        first: What the parameters that are trained were before the first step, by name; None: nobody asks for it.
    """

    base: nn.Module
    masters: dict[str, Tensor]
    average: Average | None
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: Any | None
    levels: LevelRange | None = None
    first: dict[str, Tensor] | None = None

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        own = dict(self.base.named_parameters())
        return {name: own[name] for name in self.masters}

    @torch.no_grad()
    def step(self) -> None:
        """Take a step with the gradients of the parameters, which are gone afterwards."""
        parameters = self.parameters
        copied = {name: p for name, p in parameters.items() if self.masters[name] is not p}
        for names in _chunks(copied):
            for name in names:
                if (gradient := copied[name].grad) is not None:
                    self.masters[name].grad = gradient.to(self.masters[name])
                    copied[name].grad = None
            self._step_given()
        if not copied:
            self._step_given()
        self.publish()
        self.schedule.step()
        if self.average is not None:
            self.average.step(self.masters)

    def _step_given(self) -> None:
        """Step the masters that have a gradient; the others stay."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def publish(self) -> None:
        """Give every parameter the value of its master."""
        for name, parameter in self.parameters.items():
            if parameter is not self.masters[name]:
                parameter.copy_(self.masters[name])

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Let the base have the averaged weights within the block. No weight is held twice for it."""
        with self._having(None if self.average is None else self.average.values):
            yield

    @contextmanager
    def first_weights(self) -> Iterator[None]:
        """Let the base have the weights that the run began with within the block."""
        with self._having(self.first):
            yield

    @contextmanager
    def _having(self, values: Mapping[str, Tensor] | None) -> Iterator[None]:
        if values is None:
            yield
            return
        self._swap(values)
        try:
            yield
        finally:
            self._swap(values)
            self.publish()

    @torch.no_grad()
    def _swap(self, values: Mapping[str, Tensor]) -> None:
        """Swap the values with the parameters that are their own masters; give the others the values."""
        for name, parameter in self.parameters.items():
            if parameter is not self.masters[name]:
                parameter.copy_(values[name])
                continue
            kept = parameter.detach().clone()
            parameter.copy_(values[name])
            values[name].copy_(kept)

    def averaged(self) -> dict[str, Tensor]:
        """Return what the model becomes, by name: the averages of what is trained, or it itself; and all buffers."""
        return self._buffers() | (self.masters if self.average is None else self.average.values)

    @property
    def files(self) -> list[str]:
        """Names of the files of a checkpoint."""
        return [MODEL, OPTIMIZER] if self.average is None else [MODEL, OPTIMIZER, AVERAGE]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return all that a checkpoint holds: for each of its files, tensors by name."""
        files = {MODEL: self._buffers() | self.masters, OPTIMIZER: self._optimizer_state()}
        return files if self.average is None else files | {AVERAGE: self.averaged()}

    def layout(self) -> dict[str, dict[str, Tensor]]:
        """Return tensors of the shapes and dtypes that `state` has after a step that trained everything."""
        lay_out_states(self._plain_optimizer, self.masters.values())
        return self.state()

    def load(self, files: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
        """Become as after `step`, when `state` returned `files`; of the optimizer's states some may not be there."""
        lay_out_states(self._plain_optimizer, self.masters.values())
        with torch.no_grad():
            for name, value in (self._buffers() | self.masters).items():
                set_values(value, files[MODEL][name])
            if self.average is not None:
                for name, value in self.average.values.items():
                    set_values(value, files[AVERAGE][name])
                self.average.steps = step
            self.publish()
        given = files[OPTIMIZER]
        fill_states(self.optimizer, self.masters, given.get)
        self._set_rate(step)
        if self.scaler is not None:
            told = {"scale": given[SCALE].item(), "_growth_tracker": int(given[GROWTH])}
            self.scaler.load_state_dict(self.scaler.state_dict() | told)

    @property
    def _plain_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer without what accelerate puts around it."""
        plain: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return plain

    def _optimizer_state(self) -> dict[str, Tensor]:
        """The optimizer's state, as `KEY/PARAMETER`, and the loss scaler's."""
        found = state_tensors(self.optimizer, self.masters)
        if self.scaler is not None:
            said = self.scaler.state_dict()
            found[SCALE] = torch.tensor(said["scale"], dtype=torch.float64)
            found[GROWTH] = torch.tensor(said["_growth_tracker"])
        return found

    def _buffers(self) -> dict[str, Tensor]:
        """The base's buffers that belong to the model, by name."""
        parameters = {name for name, _ in self.base.named_parameters()}
        return {name: x for name, x in self.base.state_dict().items() if name not in parameters}

    def _set_rate(self, step: int) -> None:
        """Set the learning rate as after so many steps."""
        schedule = self.schedule
        rates = [rate * of(step) for rate, of in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule.last_epoch, schedule._step_count, schedule._last_lr = step, step + 1, rates


def is_separate(parameter: Tensor, settings: MemorySettings) -> bool:
    """Whether the optimizer steps a copy of a parameter that is trained."""
    return settings.offload_optimizer or parameter.dtype != torch.float32


def master_of(
    name: str, parameter: nn.Parameter, settings: MemorySettings, stored: Mapping[str, TensorInfo]
) -> Tensor:
    """What the optimizer steps in place of a parameter: itself, or a float32 copy of what is stored under its name."""
    if not is_separate(parameter, settings):
        return parameter
    value = parameter.detach() if name not in stored else read_finite(name, stored[name], torch.float32)
    device = "cpu" if settings.offload_optimizer else parameter.device
    return value.to(device, torch.float32, copy=True)


def _chunks(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Names of the tensors, a few at a time: together no more than CHUNK numbers, or one tensor."""
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if names and size + tensor.numel() > CHUNK:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.numel()
    if names:
        yield names
