"""Several processes, each on its own device, as `torchrun` or `accelerate launch` start them.

Each computes an equal part of every batch. Without sharding each holds the whole model, and gradients are averaged between them.
With it, each holds a part of weights, gradients, optimizer state and average (torch's `fully_shard`); a layer's weights are
gathered while it computes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from v2w_convert.device import resolve_device
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.precision import with_precision
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.processes import PATIENCE, Processes, require_own_devices
from v2w_convert.world.experts import AnyWorld, experts_of

BUCKET = 2**25  # numbers whose gradients are averaged at once


def make_accelerator(settings: FinetuneSettings) -> Accelerator:
    """Start accelerate on the device of the settings; with several processes, on this one's.

    Raises:
        V2WError: The device is not there, accelerate is in use with other settings already, or the settings do not go with
            the number of processes.
    """
    settings = with_precision(settings)
    device = resolve_device(settings.device)
    asked = f"finetune on {device} with mixed precision {settings.mixed_precision!r}"
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # accelerate takes the current one
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=settings.mixed_precision,
            gradient_accumulation_steps=settings.gradient_accumulation,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as error:
        raise V2WError(asked, str(error)) from None
    count = accelerator.num_processes
    require_own_devices(asked, device, count)
    if accelerator.device.type != device.type:
        raise V2WError(asked, f"accelerate chose {accelerator.device}", "device cpu or auto")
    require_shares(settings, count)
    return accelerator


def require_shares(settings: FinetuneSettings, count: int) -> None:
    """Check that so many processes can share the work.

    Raises:
        V2WError: They cannot have equal parts of a batch, or there is nobody to share the model with.
    """
    parts = count * settings.gradient_accumulation
    if settings.batch % parts:
        raise V2WError(
            f"finetune in {count} processes",
            f"a batch of {settings.batch} clips, in {settings.gradient_accumulation} parts, cannot be shared equally",
            f"--batch {-(-settings.batch // parts) * parts}",
        )
    if settings.shard and count == 1:
        raise V2WError(
            "shard the model", "there is one process", "torchrun --nproc-per-node 2 -m v2w_convert finetune …"
        )


def processes_of(accelerator: Accelerator) -> Processes:
    """The processes, as those see them that do not train."""
    return Processes(accelerator.process_index, accelerator.num_processes)


def own_clips(batch: int, accelerator: Accelerator) -> slice:
    """The clips of a batch that this process computes."""
    share = batch // accelerator.num_processes
    return slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)


def shard(world: AnyWorld, accelerator: Accelerator) -> None:
    """Leave this process a part of each weight, in place: what repeats (transformer blocks) is gathered one at a time."""
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for part in experts_of(world).values():
        for block in repeated(part.base):
            fully_shard(block, mesh=mesh)
        fully_shard(part.base, mesh=mesh)


def repeated(module: nn.Module) -> Iterator[nn.Module]:
    """The elements of the outermost lists of modules, if they have parameters."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if any(True for _ in block.parameters()))
        else:
            yield from repeated(child)


def average_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Give all processes the mean of their gradients. Sharded parameters have it already."""
    count = accelerator.num_processes
    whole = [p for p in parameters if not isinstance(p, DTensor)]
    if count == 1 or not whole:
        return
    given = torch.tensor([p.grad is not None for p in whole], device=accelerator.device, dtype=torch.int32)
    dist.all_reduce(given, dist.ReduceOp.MAX)
    for p, has in zip(whole, given.tolist(), strict=True):
        if has and p.grad is None:
            p.grad = torch.zeros_like(p)
    for bucket in _buckets([p.grad for p in whole if p.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= count
        for gradient, mean in zip(bucket, flat.split([x.numel() for x in bucket]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def mean(value: float, accelerator: Accelerator) -> float:
    """The mean of all processes' values."""
    if accelerator.num_processes == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    if accelerator.device.type != "cpu":
        total = total.to(accelerator.device, torch.float32)
    dist.all_reduce(total)
    return float(total.item() / accelerator.num_processes)


def any_of(value: bool, accelerator: Accelerator) -> bool:
    """Whether it is so in any of the processes."""
    return mean(float(value), accelerator) > 0


def first_fault(fault: str | None, accelerator: Accelerator) -> str | None:
    """What the first process that has a fault says of it; None: none has. All processes get the same, and must call it."""
    if accelerator.num_processes == 1 or not any_of(fault is not None, accelerator):
        return fault
    told: list[str | None] = [None] * accelerator.num_processes
    dist.all_gather_object(told, fault)
    return next(said for said in told if said is not None)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those that are sharded put together in the computer's memory of the first process; others get None of them.

    All processes must call it with the same names.
    """
    found = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            found[name] = tensor
            continue
        full = tensor.full_tensor()
        if dist.get_rank() == 0:
            found[name] = full.cpu()
    return found


def set_values(target: Tensor, value: Tensor) -> None:
    """Copy the values of a whole tensor into one that may be sharded."""
    if isinstance(target, DTensor):
        value = distribute_tensor(
            value.to(target.device, target.dtype), target.device_mesh, target.placements, src_data_rank=None
        )
    target.copy_(value)


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that may be sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_float(value: Any) -> float:
    """The number in a tensor that may be sharded."""
    return float(value.full_tensor() if isinstance(value, DTensor) else value)


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """A few gradients at a time, of one dtype and together of no more than BUCKET numbers, or one gradient."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        size = sum(x.numel() for x in bucket)
        if bucket and (size + gradient.numel() > BUCKET or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
