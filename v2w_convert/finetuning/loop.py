"""The training loop: steps, validations and checkpoints, each in its turn."""

import math
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.finetuning import objective
from v2w_convert.finetuning.batches import draw_clips, generator, sample_batch, seed_of
from v2w_convert.finetuning.checkpoints import Training, restore, save
from v2w_convert.finetuning.latents import LatentDataset
from v2w_convert.finetuning.run import CHECKPOINTS, LOG, Log, sync
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.progress import Pace, Progress, ProgressEvent
from v2w_convert.world.model import World


def prepare(world: World, settings: FinetuneSettings, accelerator: Accelerator) -> Training:
    """What training `world` takes, at its first step."""
    world.train().requires_grad_(True)
    if settings.gradient_checkpointing:
        try:
            world.base.enable_gradient_checkpointing()  # type: ignore[operator]
        except ValueError as error:
            raise V2WError("save memory by gradient checkpointing", str(error), "not to") from None
    parameters = list(world.base.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    schedule = get_scheduler(
        settings.lr_scheduler,
        optimizer,
        num_warmup_steps=round(settings.warmup * settings.steps),
        num_training_steps=settings.steps,
    )
    average = EMAModel(parameters, decay=settings.ema_decay, foreach=True)
    return Training(world.base, average, accelerator.prepare(optimizer), schedule, accelerator.scaler)


def train(
    world: World,
    training: Training,
    clips: LatentDataset,
    held_out: LatentDataset | None,
    settings: FinetuneSettings,
    accelerator: Accelerator,
    output: Path,
    progress: Progress,
) -> Log:
    """Make the steps that are still to be made, with checkpoints in `output`; return the whole run's log."""
    step = restore(output / CHECKPOINTS, training)
    log = Log(output / LOG, step)
    fixed = held_out.spread(settings.validation_clips) if held_out else None
    pace = Pace(step, settings.steps)

    def validate() -> None:
        if fixed is not None:
            with accelerator.autocast():
                log.write({"step": step, "validation_loss": averaged_loss(world, training, *fixed, settings)})

    gpus = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        if not log.lines:
            validate()
        while step < settings.steps:
            began = time.monotonic()
            lr = float(training.schedule.get_last_lr()[0])
            loss, norm = make_step(world, training, clips, settings, accelerator, step)
            step += 1
            seconds = round(time.monotonic() - began, 3)
            log.write({"step": step, "loss": loss, "gradient_norm": norm, "lr": lr, "seconds": seconds})
            if step % settings.validate_every == 0 or step == settings.steps:
                validate()
            if step % settings.checkpoint_every == 0 or step == settings.steps:
                sync(log.file)
                save(output / CHECKPOINTS, step, training, settings.keep_checkpoints)
            seconds_left = pace.seconds_left(step)
            progress(ProgressEvent("train", step, settings.steps, f"loss {loss:.4f}", seconds_left))
    return log


def make_step(
    world: World,
    training: Training,
    clips: LatentDataset,
    settings: FinetuneSettings,
    accelerator: Accelerator,
    step: int,
) -> tuple[float, float]:
    """One optimizer step, the `step`-th from 0; returns its loss and its gradient's norm before clipping.

    Raises V2WError, with the weights as they were, if either is not finite.
    """
    chance = generator(settings.seed, "step", step)
    latents, actions = clips.clips(draw_clips(len(clips), settings.batch, chance))
    shape, dropout = tuple(latents.shape), settings.action_dropout
    draws = sample_batch(shape, world.noise, dropout, world.resolved.period, chance, world.frames_per_block)
    torch.manual_seed(seed_of(settings.seed, "base", step))  # for a base with dropout
    device, size = accelerator.device, settings.batch // settings.gradient_accumulation
    total = 0.0
    for part in (slice(i, i + size) for i in range(0, settings.batch, size)):
        with accelerator.autocast():
            value = objective.loss(
                world, latents[part].to(device), actions[part].to(device), draws.part(part, device)
            )
        accelerator.backward(value)  # divides by the number of parts
        total += value.item() / settings.gradient_accumulation
    norm = float(accelerator.clip_grad_norm_(training.base.parameters(), settings.max_gradient_norm))
    # With a loss scaler an overflowing gradient is usual: it skips that update.
    if not (math.isfinite(total) and (math.isfinite(norm) or training.scaler)):
        raise V2WError(
            f"make step {step + 1}",
            f"its loss is {total}, its gradient's norm {norm}; the checkpoints until then are good",
            "a lower learning rate, in a new folder",
        )
    training.optimizer.step()
    training.optimizer.zero_grad()
    training.schedule.step()
    training.average.step(training.base.parameters())
    return total, norm


def averaged_loss(
    world: World, training: Training, latents: Tensor, actions: Tensor, settings: FinetuneSettings
) -> float:
    """The validation loss with the averaged weights, which are lent to the world for it."""
    parameters = list(training.base.parameters())
    training.average.store(parameters)
    training.average.copy_to(parameters)
    try:
        return objective.validation_loss(world, latents, actions, settings.seed, settings.batch)
    finally:
        training.average.restore(parameters)
