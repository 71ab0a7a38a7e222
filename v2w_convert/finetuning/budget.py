"""What a run will take, in bytes, before it begins: by tensor for what it keeps, counted in a step without values for the rest."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from v2w_convert.data.validation.memory import free_memory
from v2w_convert.errors import V2WError
from v2w_convert.families.build import build_model
from v2w_convert.finetuning import objective
from v2w_convert.finetuning.activations import count_step
from v2w_convert.finetuning.batches import BatchSamples
from v2w_convert.finetuning.lora import inject_updates
from v2w_convert.finetuning.memory_settings import MemorySettings
from v2w_convert.finetuning.processes import repeated
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.trainable import choose_parameters
from v2w_convert.finetuning.training import CHUNK, is_separate
from v2w_convert.surgery.change import install_operations
from v2w_convert.surgery.load import Converted
from v2w_convert.world.model import World

FLOAT32 = 4  # bytes of a number
SMALLEST_8BIT = 4096  # numbers: bitsandbytes keeps smaller tensors' moments in float32
BLOCK_8BIT = 256  # numbers that share a scale, in bitsandbytes
LESS: dict[str, Any] = {  # settings that take less, the cheapest first
    "mixed_precision": "bf16",
    "gradient_checkpointing": True,
    "gradient_accumulation": None,  # the batch
    "weights": "bfloat16",
    "ema": "cpu",
    "optimizer": "adamw-8bit",
    "train": "lora",
    "offload_optimizer": True,
}


@dataclass(frozen=True)
class Budget:
    """Bytes that a run takes.

    Attributes:
        device: Where it trains; of several processes, the first one's: each takes as much.
        processes: How many there are.
        parameters: How many numbers the denoisers have that are loaded.
        trained: How many of them, and of updates of low rank, are trained.
        weights: Of the weights on the device, and with `consistency` of those that the run began with.
        gradients: Of all gradients; float32 copies of some exist besides, where the optimizer steps copies.
        optimizer: Of the optimizer's state and of float32 copies of what is trained, on the device.
        average: Of averaged weights on the device.
        activations: What a step holds at its peak beside all these, whole layers among them that are gathered of their
            parts; None: it could not be counted for this model.
        computer: What is kept in the computer's memory in place of the device's.
        disk: Of all checkpoints at once, and of the model that is written.
        total: Of all that is on the device, as far as it is known.
        available: What the device has free; None: it does not say.
        advice: Where the total is more than that: settings that take less, each line with those above it, and what the
            total is then.
    """

    device: str
    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int | None
    computer: int
    disk: int
    total: int
    available: int | None
    processes: int = 1
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the device has so much free, as far as both are known."""
        return self.available is None or self.total <= self.available

    def words(self) -> str:
        """The budget in a line."""
        parts = {
            f"weights of {self.parameters:,} numbers": self.weights,
            f"gradients of {self.trained:,}": self.gradients,
            "optimizer": self.optimizer,
            "average": self.average,
        }
        told = [f"{what} {gigabytes(size)}" for what, size in parts.items() if size]
        if self.activations is not None:
            told.append(f"activations {gigabytes(self.activations)}")
        beyond = " and a step's activations (`v2w budget` counts them)" if self.activations is None else ""
        beside = f"; {gigabytes(self.computer)} in the computer's memory" if self.computer else ""
        each = "" if self.processes == 1 else f" for each of {self.processes} processes"
        free = "" if self.available is None else f", of {gigabytes(self.available)} free"
        return (
            f"{self.device} will hold {', '.join(told)}: {gigabytes(self.total)}{beyond}{each}{free}{beside}"
        )


def empty_world(model: Converted, settings: MemorySettings) -> World:
    """One denoiser as it will be loaded, its parameters without values; they require gradients where they are trained."""
    base = build_model(model.resolved.plan.base, model.resolved.config, unfilled=True)
    with torch.device("meta"):
        install_operations(model.resolved, base, model.manifest.action_dim)
    world = World(base, model.resolved, model.manifest.action_dim)
    if settings.weights == "bfloat16":
        for parameter in base.parameters():
            if parameter.ndim > 1:
                parameter.data = parameter.data.to(torch.bfloat16)
    choose_parameters(world, settings.train)
    if settings.train == "lora":
        with torch.device("meta"):
            inject_updates(world, settings)
    return world.train()


def count_budget(
    experts: Mapping[str, Converted],
    settings: FinetuneSettings,
    size: tuple[int, int],
    device: torch.device,
    *,
    activations: bool = True,
    processes: int = 1,
) -> Budget:
    """The budget of a run, as each of its processes has it.

    With `shard` a process holds of each tensor the rows that `fully_shard` gives it, the first process one more than others.

    Args:
        experts: The denoisers that are trained.
        settings: The settings.
        size: Height and width of the latents.
        device: Where it trains.
        activations: Whether to count them, which takes some seconds for a large model.
        processes: How many share the batch, and with `shard` also what is kept.
    """
    parts = processes if settings.shard else 1

    def kept(parameter: Tensor) -> int:
        """Numbers of a parameter that a process keeps."""
        return _rows(parameter, parts) * math.prod(parameter.shape[1:])

    worlds = {name: empty_world(model, settings) for name, model in experts.items()}
    parameters = [p for world in worlds.values() for p in world.base.parameters()]
    trained = [p for p in parameters if p.requires_grad]
    numbers = sum(map(kept, trained))
    copies = sum(p.numel() for p in trained if is_separate(p, settings)) * FLOAT32
    state = copies + sum(state_bytes(p, settings) * kept(p) // p.numel() for p in trained)
    average = 0 if settings.ema == "off" else numbers * FLOAT32
    moved = (state if settings.offload_optimizer else 0) + (average if settings.ema == "cpu" else 0)
    stored = sum(info.size for model in experts.values() for info in model.source.tensors.values())
    all_numbers = sum(p.numel() for p in trained)
    saved = all_numbers * FLOAT32
    checkpoint = (
        saved + (0 if settings.ema == "off" else saved) + sum(state_bytes(p, settings) for p in trained)
    )
    weights, gradients = (sum(kept(p) * p.element_size() for p in some) for some in (parameters, trained))
    if settings.consistency:
        weights += gradients  # what is trained, as it was before the first step
    beside = None
    if activations:
        try:
            whole = sum(map(_bytes, trained))
            gathered = sum(gathered_bytes(world.base, parts) for world in worlds.values())
            peak = sum(_count(world, settings, size, device, processes) for world in worlds.values())
            beside = max(0, peak - whole, min(copies, CHUNK * FLOAT32)) + gathered
        except Exception:  # whatever a base's program does with a tensor without values
            beside = None
    on_device = (
        weights + gradients + (0 if settings.offload_optimizer else state),
        average if settings.ema == "device" else 0,
        beside or 0,
    )
    return Budget(
        device=str(device),
        parameters=sum(p.numel() for p in parameters),
        trained=all_numbers,
        weights=weights,
        gradients=gradients,
        optimizer=0 if settings.offload_optimizer else state,
        average=average if settings.ema == "device" else 0,
        activations=beside,
        computer=moved,
        disk=checkpoint * (settings.keep_checkpoints + 1) + stored,
        total=sum(on_device),
        available=device_memory(device),
        processes=processes,
    )


def advise(budget: Budget, settings: FinetuneSettings, count: Callable[[FinetuneSettings], Budget]) -> Budget:
    """`budget` with what to change, if it does not fit; `count` returns the budget of other settings."""
    if budget.fits:
        return budget
    lines, changed, now = [], settings.model_dump(), budget
    for name, value in LESS.items():
        value = settings.batch if name == "gradient_accumulation" else value
        if changed[name] == value:
            continue
        try:
            after = count(FinetuneSettings.model_validate(changed | {name: value}))
        except (V2WError, ValidationError):  # it does not go with the others, or needs a package
            continue
        if after.activations is None or after.total >= now.total:
            continue
        changed, now = changed | {name: value}, after
        flag = f"--{name.replace('_', '-')}"
        lines.append(f"{flag if value is True else f'{flag} {value}'}: {gigabytes(now.total)}")
        if now.fits:
            break
    return replace(budget, advice=tuple(lines))


def require_memory(budget: Budget) -> None:
    """Check that what a run keeps from step to step fits.

    Raises:
        V2WError: It does not, whatever the activations are.
    """
    kept = budget.total - (budget.activations or 0)
    if budget.available is not None and kept > budget.available:
        raise V2WError(
            "finetune", budget.words(), " and ".join(budget.advice) or "v2w budget, for what takes less"
        )


def gigabytes(size: int) -> str:
    """Bytes for a reader."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def state_bytes(parameter: Tensor, settings: MemorySettings) -> int:
    """Bytes of an optimizer's state for a parameter, without a copy of it."""
    n = parameter.numel()
    match settings.optimizer:
        case "adamw":
            return 2 * n * FLOAT32
        case "adamw-8bit":
            if n < SMALLEST_8BIT:
                return 2 * n * FLOAT32
            return 2 * (n + -(-n // BLOCK_8BIT) * FLOAT32)
        case "adafactor":  # a sum for every row and every column
            if parameter.ndim < 2:
                return n * FLOAT32
            return (n // parameter.shape[-1] + n // parameter.shape[-2]) * FLOAT32


def gathered_bytes(base: nn.Module, parts: int) -> int:
    """Bytes of whole layers that a process holds beside its part of them, of `parts`, at most.

    These are weights and gradients of what is in no repeated block, until the step's end; and of the largest block, with
    the weights of the next one, which are gathered ahead.
    """
    if parts == 1:
        return 0
    blocks = [sum(map(_bytes, block.parameters())) for block in repeated(base)]
    outside = sum(map(_bytes, base.parameters())) - sum(blocks)
    return 2 * outside + 3 * max(blocks, default=0)


def _rows(parameter: Tensor, parts: int) -> int:
    """Rows of a parameter that the first of so many processes keeps."""
    return -(-parameter.shape[0] // parts) if parameter.ndim else 1


def _count(
    world: World, settings: FinetuneSettings, size: tuple[int, int], device: torch.device, processes: int
) -> int:
    """Bytes that a step of one denoiser holds at its peak, all gradients included."""
    clips = settings.batch // settings.gradient_accumulation // processes
    t = settings.frames
    if settings.gradient_checkpointing:
        base: Any = world.base
        base.enable_gradient_checkpointing()
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.mixed_precision)
    precision = torch.autocast(device.type, half) if half is not None else nullcontext()

    def step() -> Tensor:
        latents = torch.empty(clips, t, world.channels, *size, device=device)
        level = torch.empty(clips, t, device=device)
        samples = BatchSamples(
            level=level,
            noise=torch.empty_like(latents),
            dropped=torch.empty(clips, t, dtype=torch.bool, device=device),
            offset=None
            if world.resolved.period is None
            else torch.zeros(clips, dtype=torch.int64, device=device),
        )
        actions = torch.empty(clips, t, world.action_dim, device=device)
        with precision:
            return objective.loss(world, latents, actions, samples)

    return count_step(world, step, device)


def device_memory(device: torch.device) -> int | None:
    """Bytes that a device has free; None where it does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = free_memory() if device.type == "cpu" else None
    return None if free is None else int(free)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
