"""What finetuning takes in memory: counted for models of published size, and measured in a real step.

    python benchmarks/finetune_memory.py table [--clips 1] [--only NAME]
    python benchmarks/finetune_memory.py tensors CONVERTED
    python benchmarks/finetune_memory.py measure [MODEL] [--frames 4] [--size 8x8] [--set train=lora …]

`table` reads nothing and allocates nothing: a step is run on tensors without values, said to be on the CPU, in the dtypes
that a GPU would have. `tensors` loads a converted model, takes a step with each choice, and adds up the bytes of every tensor
that is kept, in the files' formats: for a number that is trained, and for one that is not. `measure` makes the model with random weights and takes a step with it on the CPU. Printed beside the
budget are the bytes of every tensor that is kept, and the peak of what the allocator gave during the step, as
torch.profiler records it. With `--set weights=bfloat16` most of a step's time on a CPU is the emulation of bfloat16.
"""

import argparse
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from v2w_convert.finetuning import objective
from v2w_convert.finetuning.batches import BatchSamples
from v2w_convert.finetuning.budget import count_budget
from v2w_convert.finetuning.loop import prepare
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.training import OPTIMIZER
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import install_operations
from v2w_convert.world.model import World

ACTION_DIM = 8
WAN = "WanTransformer3DModel"
MODELS: dict[str, tuple[str, dict[str, Any], tuple[int, int], int]] = {
    # class, what differs from its defaults, latents' height and width, latent frames of a clip
    "SVD, 14 frames, 576 × 320": ("UNetSpatioTemporalConditionModel", {"num_frames": 14}, (40, 72), 14),
    "Wan 2.1 1.3B, 21 latent frames, 480 × 832": (
        WAN,
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        (60, 104),
        21,
    ),
    "Wan 2.2 5B, 21 latent frames, 480 × 832": (
        WAN,
        {
            "num_attention_heads": 24,
            "in_channels": 48,
            "out_channels": 48,
            "ffn_dim": 14336,
            "num_layers": 30,
        },
        (30, 52),
        21,
    ),
    "Wan 2.1 14B, 21 latent frames, 480 × 832": (WAN, {}, (60, 104), 21),
}
HALF = {"mixed_precision": "bf16", "weights": "bfloat16", "gradient_checkpointing": True}
CHOICES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "--mixed-precision bf16 --gradient-checkpointing": {
        "mixed_precision": "bf16",
        "gradient_checkpointing": True,
    },
    "and --weights bfloat16 --ema off --optimizer adamw-8bit": HALF
    | {"ema": "off", "optimizer": "adamw-8bit"},
    "or --ema cpu --offload-optimizer": HALF | {"ema": "cpu", "offload_optimizer": True},
    "--train temporal, in bfloat16": HALF | {"train": "temporal"},
    "--train lora, in bfloat16": HALF | {"train": "lora"},
}


def unread(kind: str, config: dict[str, Any]) -> Any:
    """A converted model of which nothing is on the disk: a denoiser's class, and what differs from its defaults."""
    plan = plan_for(kind)
    with torch.device("meta"):
        resolved = resolve(plan, {"_class_name": kind, **config})
    manifest = SimpleNamespace(action_dim=ACTION_DIM)
    return SimpleNamespace(resolved=resolved, manifest=manifest, source=SimpleNamespace(tensors={}))


def table(clips: int, only: str) -> None:
    """Print a row for every model and choice, in GB."""
    print(
        "| model, and flags | numbers trained | kept on the device | activations | together | in the computer |"
    )
    print("|---|---|---|---|---|---|")
    for name, (kind, config, size, frames) in MODELS.items():
        if only not in name:
            continue
        model = unread(kind, config)
        for choice, flags in CHOICES.items():
            settings = FinetuneSettings.model_validate({"batch": clips, "frames": frames, **flags})
            found = count_budget({"": model}, settings, size, torch.device("cpu"))
            kept = found.total - (found.activations or 0)
            cells = [kept, found.activations, found.total, found.computer]
            told = " | ".join("unknown" if x is None else f"{x / 1e9:.1f}" for x in cells)
            row = f"**{name}**, {choice}" if choice == "as it is" else choice
            print(f"| {row} | {found.trained / 1e6:,.0f} M | {told} |", flush=True)


KEPT: dict[str, dict[str, Any]] = {
    "float32, adamw": {},
    "float32, adamw, no average": {"ema": "off"},
    "float32, adamw, average and optimizer in the computer": {"ema": "cpu", "offload_optimizer": True},
    "bfloat16, adamw": {"weights": "bfloat16", "mixed_precision": "bf16"},
    "bfloat16, adamw-8bit": {"weights": "bfloat16", "mixed_precision": "bf16", "optimizer": "adamw-8bit"},
    "bfloat16, adamw-8bit, no average": {
        "weights": "bfloat16",
        "mixed_precision": "bf16",
        "optimizer": "adamw-8bit",
        "ema": "off",
    },
    "bfloat16, adafactor, no average": {
        "weights": "bfloat16",
        "mixed_precision": "bf16",
        "optimizer": "adafactor",
        "ema": "off",
    },
    "bfloat16, adamw, average and optimizer in the computer": {
        "weights": "bfloat16",
        "mixed_precision": "bf16",
        "ema": "cpu",
        "offload_optimizer": True,
    },
}


def tensors(folder: Path) -> None:
    """Print bytes a number for every choice of what is kept."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from v2w_convert.surgery.load import load_experts, open_converted

    print(
        "| held | weight | gradient | optimizer | average | on the device | in the computer | not trained |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, flags in KEPT.items():
        AcceleratorState._reset_state(reset_partial_state=True)
        settings = FinetuneSettings.model_validate({"warmup": 0, "train": "temporal", **flags})
        matrices = torch.bfloat16 if settings.weights == "bfloat16" else None
        world = load_experts(open_converted(folder).experts, None, dtype=torch.float32, matrices=matrices)
        training = prepare(world, settings, Accelerator(cpu=True, mixed_precision=settings.mixed_precision))
        trained = training.parameters.values()
        for parameter in trained:
            parameter.grad = torch.ones_like(parameter)
        gradients = _size(p.grad for p in trained)
        training.step()
        numbers = sum(p.numel() for p in trained)
        frozen = [p for p in world.base.parameters() if not p.requires_grad]
        own = {id(p) for p in trained}
        state = _size(training.state()[OPTIMIZER].values())
        state += _size(m for m in training.masters.values() if id(m) not in own)
        average = 0 if training.average is None else _size(training.average.values.values())
        away = (state if settings.offload_optimizer else 0) + (average if settings.ema == "cpu" else 0)
        weights = _size(trained)
        device = weights + gradients + state + average - away
        cells = [x / numbers for x in (weights, gradients, state, average, device, away)]
        cells.append(_size(frozen) / sum(p.numel() for p in frozen))
        print(f"| {name} | {' | '.join(f'{x:.2f}' for x in cells)} |", flush=True)


def measure(name: str, frames: int, size: tuple[int, int], flags: dict[str, str]) -> None:
    """Take a step with random weights; print what was told before, and what was found."""
    from accelerate import Accelerator
    from torch.profiler import ProfilerActivity, profile

    model = unread(*MODELS[name][:2])
    settings = FinetuneSettings.model_validate({"batch": 1, "frames": frames, "warmup": 0, **flags})
    budget = count_budget({"": model}, settings, size, torch.device("cpu"))
    print(f"{name}: {budget.words()}", flush=True)
    resident = _resident()
    world = random_world(model, settings)
    training = prepare(world, settings, Accelerator(cpu=True, mixed_precision=settings.mixed_precision))
    shape = (1, frames, world.channels, *size)
    samples = BatchSamples(
        torch.rand(shape[:2]), torch.randn(shape), torch.zeros(shape[:2], dtype=torch.bool), None
    )
    start = time.monotonic()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as watched:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
            loss = objective.loss(world, torch.randn(shape), torch.randn(*shape[:2], ACTION_DIM), samples)
        loss.backward()
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    training.step()
    state = training.state()[OPTIMIZER]
    parameters = list(world.base.parameters())
    own = {id(p) for p in parameters}
    found = {
        "weights": _size(parameters),
        "optimizer": _size(state.values()) + _size(m for m in training.masters.values() if id(m) not in own),
        "average": 0 if training.average is None else _size(training.average.values.values()),
        "gradients and activations": peak,
    }
    told = {
        "weights": budget.weights,
        "optimizer": budget.optimizer,
        "average": budget.average,
        "gradients and activations": budget.gradients + (budget.activations or 0),
    }
    for what, size_found in found.items():
        print(
            f"{what}: told {told[what]:,} bytes, found {size_found:,}, ratio {told[what] / max(1, size_found):.4f}"
        )
    together = sum(found.values())
    print(f"together: told {budget.total:,}, found {together:,}, ratio {budget.total / together:.4f}")
    print(
        f"resident set at its peak: {_resident(peak=True) - resident:,} more than before the model was made"
    )
    print(f"{time.monotonic() - start:.0f} s for the step")


def random_world(model: Any, settings: FinetuneSettings) -> World:
    """The model with small random weights, in the form in which a run holds them; one tensor at a time is float32."""
    from v2w_convert.families.build import build_model

    base = build_model(model.resolved.plan.base, model.resolved.config, unfilled=True)
    with torch.device("meta"):
        install_operations(model.resolved, base, ACTION_DIM)
    fill(base, settings)
    return World(base, model.resolved, ACTION_DIM)


def fill(model: torch.nn.Module, settings: FinetuneSettings) -> None:
    """Give a model without values small random weights, in the form in which a run holds them."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for key, value in module._parameters.items():
            if value is not None:
                half = settings.weights == "bfloat16" and value.ndim > 1
                filled = torch.randn(value.shape, generator=generator).mul_(0.02)
                module._parameters[key] = torch.nn.Parameter(
                    filled.to(torch.bfloat16 if half else torch.float32)
                )
        for key, value in module._buffers.items():
            if value is not None and value.is_meta:
                module._buffers[key] = torch.ones(value.shape)


def _size(tensors: Any) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _resident(peak: bool = False) -> int:
    """Bytes of this process in memory, now or at most, as Linux tells them."""
    wanted = "VmHWM" if peak else "VmRSS"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["table", "tensors", "measure"])
    parser.add_argument("model", nargs="?", default="Wan 2.1 1.3B")
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--size", default="8x8")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    if given.what == "table":
        table(given.clips, given.only)
    elif given.what == "tensors":
        tensors(Path(given.model))
    else:
        [chosen] = [name for name in MODELS if name.startswith(given.model)]
        height, width = map(int, given.size.split("x"))
        measure(chosen, given.frames, (height, width), dict(pair.split("=") for pair in given.set))
