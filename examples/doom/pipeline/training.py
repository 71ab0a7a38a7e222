"""The training loop of autoencoder, base and decoder. A run that was killed and goes on ends with the same weights.

Every random number is drawn from (seed, step), so that a checkpoint, whenever it is written, changes nothing.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from examples.doom.pipeline.recipe import Course
from v2w_convert.errors import V2WError
from v2w_convert.new_file import new_file, write_text

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
STEPS_A_LINE = 50  # of the log: the loss is their mean
WARM_UP = 100  # steps, or a tenth of all
DECAY = 0.998  # of the averaged weights


def train(
    model: nn.Module,
    loss_at: Callable[[torch.Generator], Tensor],
    validate: Callable[[], dict[str, float]],
    course: Course,
    folder: Path,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Train `model` from the checkpoint in `folder` on, if there is one; it ends with its averaged weights, in eval mode.

    Args:
        model: The model, on its device; parameters that need no gradient stay as they are.
        loss_at: The loss of a batch that is drawn from a generator, which is on the CPU.
        validate: Figures of the model as it is then, which has its averaged weights: by name.
        course: How long and how fast.
        folder: Where checkpoint.pt and log.jsonl go. The log has a line of `loss`, or of `validation`, and `hours` so far.
        watch: Called after each line of the log.

    Raises:
        V2WError: A loss is not finite, or the disk is full. The checkpoint is of the last good step that was saved.
        SystemExit: SIGTERM or SIGINT came: after a checkpoint, with 128 and the signal's number.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=course.lr, weight_decay=0.01, fused=True)
    schedule = get_scheduler(
        "cosine",
        optimizer,
        num_warmup_steps=min(WARM_UP, course.steps // 10),
        num_training_steps=course.steps,
    )
    average = EMAModel(parameters, decay=DECAY, foreach=True)
    step, seconds, losses, log = 0, 0.0, [], []
    if (folder / CHECKPOINT).is_file():
        state = torch.load(folder / CHECKPOINT, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        for part, name in ((optimizer, "optimizer"), (schedule, "schedule"), (average, "average")):
            part.load_state_dict(state[name])
        step, seconds, losses, log = (state[name] for name in ("step", "seconds", "losses", "log"))

    def save() -> None:
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "average": average}
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        state |= {"step": step, "seconds": seconds, "losses": losses, "log": log}
        with new_file(folder / CHECKPOINT, replace=True) as file:
            torch.save(state, file)

    def write(line: dict[str, Any]) -> None:
        log.append({"step": step, **line, "hours": round(seconds / 3600, 4)})
        write_text(folder / LOG, "".join(json.dumps(line) + "\n" for line in log), replace=True)
        print(
            f"{folder.name} {log[-1]}, {seconds / step * (course.steps - step) / 60:.0f} minutes left",
            flush=True,
        )
        watch()

    saved = time.monotonic()
    with _signals() as received:
        model.train()
        while step < course.steps:
            began = time.monotonic()
            loss = loss_at(torch.Generator().manual_seed(course.seed * 1_000_003 + step))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise V2WError(f"take step {step + 1} in {folder}", f"the loss is {losses[-1]}", "a lower lr")
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            average.step(parameters)
            step += 1
            seconds += time.monotonic() - began
            if step % STEPS_A_LINE == 0 or step == course.steps:
                mean, losses = sum(losses) / len(losses), []
                write({"loss": round(mean, 6)})
            if step % course.validate_every == 0 or step == course.steps:
                average.store(parameters)
                average.copy_to(parameters)
                model.eval()
                with torch.no_grad():
                    write({"validation": validate()})
                model.train()
                average.restore(parameters)
            late = time.monotonic() - saved >= course.checkpoint_seconds
            if late or received or step == course.steps:
                save()
                saved = time.monotonic()
            if received and step < course.steps:
                print(f"{folder.name}: stopped after step {step}; the same command goes on", flush=True)
                raise SystemExit(128 + received[0])
    average.copy_to(parameters)
    model.eval()


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where the device does so natively: cards, and processors that have instructions for it."""
    native = (
        device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log in `folder`; none if nothing was logged yet."""
    file = folder / LOG
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals that ask to stop, as they come. The second one stops at once."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
