"""What a run takes, as it was told before: by tensor, and in a real step by what the allocator gave."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed import fake_pg

from tests.cli.commands import printed, refused
from v2w_convert.finetuning import objective, plan_memory
from v2w_convert.finetuning.batches import generator
from v2w_convert.finetuning.budget import Budget, count_budget, require_memory
from v2w_convert.finetuning.loop import prepare
from v2w_convert.finetuning.optimizers import make_optimizer
from v2w_convert.finetuning.precision import with_precision
from v2w_convert.finetuning.processes import local, shard
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.trainable import choose_parameters
from v2w_convert.finetuning.training import AVERAGE, MODEL, OPTIMIZER, Training
from v2w_convert.surgery.load import load_experts, open_converted
from v2w_convert.world.experts import AnyWorld

CPU = torch.device("cpu")
HALF = {"weights": "bfloat16", "mixed_precision": "bf16"}
CHOICES: dict[str, dict[str, Any]] = {
    "all": {},
    "no average": {"ema": "off"},
    "temporal": {"train": "temporal"},
    "bfloat16": HALF,
    "bfloat16, action": HALF | {"train": "action"},
    "offload": {"offload_optimizer": True, "ema": "cpu"},
    "adafactor": {"optimizer": "adafactor"},
    "adamw-8bit": {"optimizer": "adamw-8bit"},
    "lora": HALF | {"train": "lora", "lora_rank": 4},
    "consistency": {"consistency": 0.5},
    "bfloat16, consistency": HALF | {"consistency": 0.5, "train": "temporal"},
}


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def of(choice: str) -> FinetuneSettings:
    if choice == "lora":
        pytest.importorskip("peft")
    if choice == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    return FinetuneSettings.model_validate({"batch": 2, "frames": 6, "warmup": 0, **CHOICES[choice]})


def ready(folder: Path, settings: FinetuneSettings) -> tuple[AnyWorld, Training]:
    matrices = torch.bfloat16 if settings.weights == "bfloat16" else None
    world = load_experts(open_converted(folder).experts, None, dtype=torch.float32, matrices=matrices)
    settings = with_precision(settings)
    accelerator = Accelerator(cpu=True, mixed_precision=settings.mixed_precision)
    return world, prepare(world, settings, accelerator)


def backward(world: AnyWorld, settings: FinetuneSettings) -> None:
    shape = (settings.batch, settings.frames, world.channels, 8, 8)
    chance = generator(0)
    latents = torch.randn(shape, generator=chance)
    samples = objective.BatchSamples(
        level=torch.rand(shape[:2], generator=chance),
        noise=torch.randn(shape, generator=chance),
        dropped=torch.zeros(shape[:2], dtype=torch.bool),
        offset=torch.zeros(settings.batch, dtype=torch.int64),
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
        value = objective.loss(world, latents, torch.randn(*shape[:2], world.action_dim), samples)
    value.backward()


def size(tensors: Any) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


@pytest.mark.parametrize("choice", CHOICES)
def test_it_counts_every_tensor_that_is_kept(choice: str, tiny_converted: Path) -> None:
    settings = of(choice)
    budget = count_budget(open_converted(tiny_converted).experts, settings, (8, 8), CPU, activations=False)
    world, training = ready(tiny_converted, settings)
    parameters = list(world.base.parameters())
    assert budget.parameters == sum(p.numel() for p in parameters)
    assert budget.weights == size(parameters) + size((training.first or {}).values())
    assert (training.first is not None) == (settings.consistency > 0)
    assert budget.trained == sum(m.numel() for m in training.masters.values())
    files = training.layout()
    counts = [x for name, x in files[OPTIMIZER].items() if name.startswith(("step/", "qmap"))]
    copies = [m for name, m in training.masters.items() if m is not training.parameters[name]]
    state = size(files[OPTIMIZER].values()) - size(counts) + size(copies)
    average = 0 if training.average is None else size(training.average.values.values())
    offloaded = settings.offload_optimizer
    assert budget.gradients == size(training.parameters.values())
    assert (budget.optimizer, budget.average) == ((0, 0) if offloaded else (state, average))
    assert budget.computer == (state + average if offloaded else 0)
    assert budget.total == budget.weights + budget.gradients + budget.optimizer + budget.average
    buffers = size(world.base.buffers()) * (1 if training.average is None else 2)
    checkpoint = size(x for name in (MODEL, AVERAGE, OPTIMIZER) for x in files.get(name, {}).values())
    assert checkpoint - buffers - size(counts) == (4 * budget.trained + average + state - size(copies))


@pytest.fixture
def first_of_three() -> Iterator[SimpleNamespace]:
    """The first of three processes, by torch's own stand-in for the others."""
    fake_pg.dist.init_process_group("fake", rank=0, world_size=3, store=fake_pg.FakeStore())
    yield SimpleNamespace(device=CPU, num_processes=3)
    fake_pg.dist.destroy_process_group()


@pytest.mark.parametrize("choice", ["all", "temporal"])
def test_a_process_keeps_its_part(choice: str, first_of_three: SimpleNamespace, tiny_converted: Path) -> None:
    settings = of(choice).model_copy(update={"shard": True, "batch": 3})
    experts = open_converted(tiny_converted).experts
    told, whole = (
        count_budget(experts, settings, (8, 8), CPU, activations=False, processes=n) for n in (3, 1)
    )
    world = load_experts(experts, None, dtype=torch.float32)
    choose_parameters(world, settings.train)
    shard(world, first_of_three)  # type: ignore[arg-type]
    trained = [p for p in world.parameters() if p.requires_grad]
    optimizer = make_optimizer(settings.optimizer, trained, 1e-3, 0.0)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert told.weights == size(map(local, world.parameters()))
    assert told.gradients == told.average == size(local(p) for p in trained)
    states = [x for state in optimizer.state.values() for key, x in state.items() if key != "step"]
    assert told.optimizer == size(map(local, states))
    assert told.weights < 0.5 * whole.weights and (told.trained, told.disk) == (whole.trained, whole.disk)


@pytest.mark.slow
def test_processes_are_told(
    tiny_converted: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["budget", tiny_converted, "--data", tiny_data, "--frames", 4, "--batch", 4]
    one, two, parts = (
        printed(capsys, *command, *options)
        for options in ([], ["--processes", 2], ["--processes", 2, "--shard"])
    )
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["weights"] == one["weights"] and two["activations"] < 0.6 * one["activations"]
    assert parts["weights"] < 0.6 * one["weights"]
    assert "cannot be shared equally" in refused(capsys, *command, "--processes", 3)
    assert "there is one process" in refused(capsys, *command, "--shard")


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["all", "bfloat16", "bfloat16, action"])
@pytest.mark.parametrize("again", [False, True])
def test_a_step_holds_what_was_counted(choice: str, again: bool, tiny_converted: Path) -> None:
    settings = of(choice).model_copy(update={"gradient_checkpointing": again})
    budget = count_budget(open_converted(tiny_converted).experts, settings, (8, 8), CPU)
    world, training = ready(tiny_converted, settings)
    backward(world, settings)  # what libraries make at their first use
    for parameter in training.parameters.values():
        parameter.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        backward(world, settings)
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    assert budget.activations is not None
    assert budget.gradients + budget.activations == pytest.approx(peak, rel=0.1)


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_what_to_change(
    tiny_converted: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ["--batch", 2, "--frames", 6]
    roomy = printed(capsys, "budget", tiny_converted, "--data", tiny_data, *settings)
    assert roomy["advice"] == [] and roomy["activations"] > 0
    monkeypatch.setattr("v2w_convert.finetuning.budget.device_memory", lambda device: roomy["total"] - 1)
    tight = printed(capsys, "budget", tiny_converted, "--data", tiny_data, *settings)
    assert {**tight, "advice": [], "available": 0} == {**roomy, "available": 0}
    assert [line.partition(": ")[0] for line in tight["advice"]] == ["--mixed-precision bf16"]
    kept = roomy["total"] - roomy["activations"]
    monkeypatch.setattr("v2w_convert.finetuning.budget.device_memory", lambda device: kept - 1)
    run = tmp_path / "run"
    command = ["finetune", tiny_converted, "--data", tiny_data, "-o", run, *settings]
    line = refused(capsys, *command, noted="never changes")
    assert "cpu will hold weights of" in line and "--mixed-precision bf16" in line
    assert not run.exists()


def test_a_run_says_what_it_takes(tiny_converted: Path) -> None:
    notes: list[str] = []
    trained = open_converted(tiny_converted).experts
    plan_memory.announce_memory(trained, of("all"), (8, 8), CPU, lambda event: notes.append(event.detail))
    assert len(notes) == 1 and notes[0].startswith("cpu will hold weights of ")


def test_what_the_device_does_not_say_is_not_held_against_a_run() -> None:
    budget = Budget("mps", 1, 1, 10**15, 0, 0, 0, None, 0, 0, 10**15, None)
    require_memory(budget)
    assert budget.fits and "GB and a step's activations (`v2w budget` counts them)" in budget.words()


def test_packages_that_are_missing_are_named(
    tiny_converted: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, flags in {"peft": ["--train", "lora"], "bitsandbytes": ["--optimizer", "adamw-8bit"]}.items():
        monkeypatch.setitem(__import__("sys").modules, name, None)
        line = refused(
            capsys, "finetune", tiny_converted, "--data", tiny_data, "-o", tmp_path / "run", *flags
        )
        assert name in line and "pip install" in line
        assert not (tmp_path / "run").exists()


def test_frozen_by_choice(tiny_converted: Path) -> None:
    """Tensors that are not trained have no gradient, and no copy."""
    world, training = ready(tiny_converted, of("bfloat16, action"))
    frozen: list[Tensor] = [p for p in world.base.parameters() if not p.requires_grad]
    assert frozen and all(".v2w_action." in name for name in training.masters)
    backward(world, of("bfloat16, action"))
    assert all(p.grad is None for p in frozen)
