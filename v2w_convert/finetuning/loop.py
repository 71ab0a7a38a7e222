"""The training loop: steps, validations and checkpoints."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from torch import Tensor

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.errors import V2WError
from v2w_convert.finetuning import objective
from v2w_convert.finetuning.average import Average
from v2w_convert.finetuning.batches import generators, sample_batch, sample_clips, sample_dropped, seed_of
from v2w_convert.finetuning.checkpoints import restore, save
from v2w_convert.finetuning.conditions import Clips
from v2w_convert.finetuning.levels import clip_length, decide
from v2w_convert.finetuning.lora import add_updates, require_peft
from v2w_convert.finetuning.optimizers import make_optimizer
from v2w_convert.finetuning.processes import (
    any_of,
    as_float,
    average_gradients,
    first_fault,
    local,
    mean,
    own_clips,
    shard,
)
from v2w_convert.finetuning.resume_from import begin_from
from v2w_convert.finetuning.room import require_room
from v2w_convert.finetuning.run_folder import CHECKPOINTS, LOG, Log
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.signals import deferred
from v2w_convert.finetuning.trainable import choose_parameters
from v2w_convert.finetuning.training import Training, master_of
from v2w_convert.finetuning.watch import Watch
from v2w_convert.new_file import flush_to_disk
from v2w_convert.plan.call import Conditions
from v2w_convert.progress import Pace, Progress, ProgressEvent
from v2w_convert.world.experts import AnyWorld, LevelRange, experts_of
from v2w_convert.world.finite import is_finite, origin


def prepare(
    world: AnyWorld,
    settings: FinetuneSettings,
    accelerator: Accelerator,
    levels: LevelRange | None = None,
    stored: Mapping[str, TensorInfo] | None = None,
) -> Training:
    """Make optimizer, schedule and averaged weights for `world`, as before the first step.

    Args:
        world: The world model. Its parameters require gradients where they are trained from then on.
        settings: The settings.
        accelerator: The accelerator to train with.
        levels: The range of the world, where it is one of two experts.
        stored: Where its weights are stored, by their names in `world.base`: float32 copies are made of these. None: of
            the world's own values.

    Raises:
        V2WError: Gradient checkpointing is asked for and the base does not support it, or a package is missing.
    """
    choose_parameters(world.train(), settings.train)
    if settings.train == "lora":
        require_peft()
        add_updates(world, settings, settings.seed)
    if settings.gradient_checkpointing:
        for expert in experts_of(world).values():
            base: Any = expert.base
            try:
                base.enable_gradient_checkpointing()
            except ValueError as error:
                raise V2WError("use gradient checkpointing", str(error), "train without it") from None
    if settings.shard:
        shard(world, accelerator)
    own = world.base
    masters = {
        name: master_of(name, p, settings, stored or {})
        for name, p in own.named_parameters()
        if p.requires_grad
    }
    optimizer = make_optimizer(settings.optimizer, masters.values(), settings.lr, settings.weight_decay)
    schedule = get_scheduler(
        settings.lr_scheduler,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.steps,
    )
    place = {"off": None, "cpu": "cpu", "device": accelerator.device}[settings.ema]
    average = None if place is None else Average(masters, settings.ema_decay, place)
    prepared = accelerator.prepare(optimizer)
    training = Training(own, masters, average, prepared, schedule, accelerator.scaler, levels)
    if not settings.consistency:
        return training
    return replace(training, first={name: p.detach().clone() for name, p in training.parameters.items()})


def train(
    world: AnyWorld,
    training: Training,
    clips: Clips,
    validation: Clips | None,
    settings: FinetuneSettings,
    accelerator: Accelerator,
    output: Path,
    progress: Progress,
    watch: Watch,
) -> Log:
    """Take the steps that are left, after the newest checkpoint in `output`.

    Args:
        world: The world model.
        training: What `prepare` made for it.
        clips: The data.
        validation: The validation data, if any.
        settings: The settings.
        accelerator: The accelerator that `training` was prepared with.
        output: The run folder.
        progress: Called after each step.
        watch: What is done beside.

    Returns:
        The log of the whole run.

    Raises:
        V2WError: Loss or gradient is not finite, or what is in `output` is not this run's.
    """
    main = accelerator.is_main_process
    with accelerator.main_process_first():  # it puts damaged ones away
        step = resume(training, settings, output, main)
    log = Log(output / LOG, step, watch.log, keep=main)
    fixed = validation.read(validation.latents.spread(settings.validation_clips)) if validation else None
    pace = Pace(step, settings.steps)

    def validate() -> None:
        if fixed is not None:
            with accelerator.autocast():
                found = averaged_loss(world, training, *fixed, settings)
                fault = None
                if not math.isfinite(found):
                    fault = f"the loss is {found}"
                    if not settings.shard:  # another forward pass would wait for the other processes
                        run = partial(averaged_loss, world, training, *fixed, settings)
                        fault += f": {origin(world.base, run)} not finite"
                if said := first_fault(fault, accelerator):
                    again = "a lower learning rate, in a new folder"
                    raise V2WError(f"validate after step {step}", said, again)
            log.write({"step": step, "validation_loss": found})

    gpus = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(gpus), deferred() as signal:
        if not log.lines:
            validate()
        while step < settings.steps:
            began = time.monotonic()
            lr = float(training.schedule.get_last_lr()[0])
            loss, norm = train_step(world, training, clips, settings, accelerator, step)
            step += 1
            seconds = round(time.monotonic() - began, 3)
            log.write({"step": step, "loss": loss, "gradient_norm": norm, "lr": lr, "seconds": seconds})
            if step % settings.validate_every == 0 or step == settings.steps:
                validate()
            if any_of(bool(signal), accelerator):
                signal.also()
            if signal or step % settings.checkpoint_every == 0 or step == settings.steps:
                if main:
                    flush_to_disk(log.file)
                save(output / CHECKPOINTS, step, training, settings.keep_checkpoints, main)
            signal.obey()
            watch.show(world, training, accelerator, step)
            seconds_left = pace.seconds_left(step)
            progress(ProgressEvent("train", step, settings.steps, f"loss {loss:.4f}", seconds_left))
    return log


def resume(training: Training, settings: FinetuneSettings, output: Path, main: bool) -> int:
    """Become as after the newest checkpoint in `output`, or the one that the run begins with; returns its step.

    Raises:
        V2WError: It is not this run's or damaged, or there is no room for the first one.
    """
    step = restore(output / CHECKPOINTS, training, settings.steps)
    if not step and settings.resume_from is not None:
        if main:
            begin_from(settings.resume_from, output)
        if not (step := restore(output / CHECKPOINTS, training, settings.steps)):
            raise V2WError(f"resume from {settings.resume_from}", "it is damaged", "another checkpoint")
    if not step and main:
        least = sum(tensor.nbytes for tensor in training.masters.values())
        asked = f"write checkpoints into {output}"
        require_room(output, least, asked, "a disk with space left, before hours are spent")
    return step


def train_step(
    world: AnyWorld,
    training: Training,
    clips: Clips,
    settings: FinetuneSettings,
    accelerator: Accelerator,
    step: int,
) -> tuple[float, float]:
    """Take one optimizer step.

    Args:
        world: The world model.
        training: What `prepare` made for it.
        clips: The data.
        settings: The settings.
        accelerator: The accelerator that `training` was prepared with.
        step: The step's number, from 0.

    Returns:
        The loss, and the gradient's norm before it is clipped.

    Raises:
        V2WError: Either is not finite. The weights are as before.
    """
    mine = own_clips(settings.batch, accelerator)
    chances = generators(settings.batch, settings.seed, "step", step)[mine]
    chosen_clips = sample_clips(len(clips.latents), chances)
    conditions = clips.conditions_of(chosen_clips, sample_dropped(settings.dropout, chances))
    t = clip_length(settings, settings.frames, step, world.frames_per_block)
    latents, actions = (x[:, :t] for x in clips.latents.clips(chosen_clips))
    samples = sample_batch(
        tuple(latents.shape[1:]),
        world.noise,
        decide(settings, world.noise, settings.action_dropout),
        world.resolved.period,
        chances,
        world.frames_per_block,
        training.levels,
    )
    torch.manual_seed(
        seed_of(settings.seed, "base", step, *([mine.start] if mine.start else []))
    )  # for a base with dropout
    device, size = accelerator.device, len(chances) // settings.gradient_accumulation
    total = 0.0

    def part(chosen: slice) -> Tensor:
        with accelerator.autocast():
            return objective.loss(
                world,
                latents[chosen].to(device),
                actions[chosen].to(device),
                samples.select(chosen, device),
                {name: given[chosen].to(device) for name, given in conditions.items()},
                training.first_weights,
            )

    def loss_fault(found: float, chosen: slice) -> str:
        numbers = range(len(chances))[chosen]
        if settings.shard:  # another forward pass would wait for the other processes
            data = "; ".join(clips.place(chosen_clips[i]) for i in numbers)
            return f"its loss is {found}; its clips: {data}"
        place = origin(world.base, partial(part, chosen))
        bad = [i for i in numbers if not math.isfinite(part(slice(i, i + 1)).item())]
        data = "; ".join(clips.place(chosen_clips[i]) for i in bad) or "only of several clips together"
        return f"its loss is {found} ({data}): {place} not finite"

    for chosen in (slice(i, i + size) for i in range(0, len(chances), size)):
        value = part(chosen)
        finite = math.isfinite(found := value.item())
        if said := first_fault(None if finite else loss_fault(found, chosen), accelerator):
            raise _not_finite(step, said)
        accelerator.backward(value)  # divides by settings.gradient_accumulation
        total += found / settings.gradient_accumulation
    total = mean(total, accelerator)
    average_gradients(training.parameters.values(), accelerator)
    found_norm = accelerator.clip_grad_norm_(list(training.parameters.values()), settings.max_gradient_norm)
    norm = as_float(found_norm)
    # With a loss scaler an overflowing gradient is usual: it skips that update.
    fault = None
    if not (math.isfinite(norm) or training.scaler):
        gradients = {
            name: local(p.grad) for name, p in training.base.named_parameters() if p.grad is not None
        }
        place = next((name for name, gradient in gradients.items() if not is_finite(gradient)), "the base")
        data = "; ".join(clips.place(index) for index in chosen_clips)
        fault = f"its gradient's norm is {norm}, first at {place}; its clips: {data}"
    if said := first_fault(fault, accelerator):
        raise _not_finite(step, said)
    training.step()
    return total, norm


def _not_finite(step: int, found: str) -> V2WError:
    return V2WError(
        f"take step {step + 1}",
        f"{found}; the checkpoints until then are good",
        "a lower learning rate, in a new folder",
    )


def averaged_loss(
    world: AnyWorld,
    training: Training,
    latents: Tensor,
    actions: Tensor,
    conditions: Conditions,
    settings: FinetuneSettings,
) -> float:
    """The validation loss with the averaged weights, which the world has during this call only."""
    with training.averaged_weights():
        return objective.validation_loss(
            world, latents, actions, settings.seed, settings.batch, conditions, training.levels
        )
