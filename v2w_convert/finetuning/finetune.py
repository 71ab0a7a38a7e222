"""Finetune a converted model on action data, which completes the transfer that surgery began."""

from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from pydantic import TypeAdapter, ValidationError

from v2w_convert.checkpoint.headers import DTYPES
from v2w_convert.checkpoint.output import sha256
from v2w_convert.checkpoint.source import Source
from v2w_convert.data import Dataset, open_dataset
from v2w_convert.data.check import left_out, require_sound, told
from v2w_convert.data.starts import write_starts
from v2w_convert.data.view import decided
from v2w_convert.encoders.episode import Sources, choose_sources
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.metrics import psnr
from v2w_convert.finetuning.conditions import Clips, Conditioned, cached_conditions, require_tasks
from v2w_convert.finetuning.experts import by_expert, experts_to_train, level_range, stored_weights
from v2w_convert.finetuning.latents import cached_latents, require_clips
from v2w_convert.finetuning.levels import Objective, decide
from v2w_convert.finetuning.loop import prepare, train
from v2w_convert.finetuning.lora import updates_in
from v2w_convert.finetuning.loss_curve import draw_log
from v2w_convert.finetuning.plan_memory import announce_memory, latent_size, require_packages
from v2w_convert.finetuning.precision import with_precision
from v2w_convert.finetuning.previews import prepare_previews
from v2w_convert.finetuning.processes import make_accelerator, processes_of, whole
from v2w_convert.finetuning.result import AutoencoderFacts, FinetuneResult, Input, ValidationLoss
from v2w_convert.finetuning.resume_from import require_checkpoint
from v2w_convert.finetuning.run_folder import (
    CHECKPOINTS,
    LATENTS,
    LOSS_CURVE,
    Log,
    Record,
    locked,
    require_outside,
    require_own,
    write_atomically,
)
from v2w_convert.finetuning.run_settings import NOT_COMPARED as RUNNING
from v2w_convert.finetuning.save import save_model
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.watch import Watch
from v2w_convert.finetuning.watch_settings import NOT_COMPARED as WATCHING
from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.surgery.action_statistics import ActionStatistics
from v2w_convert.surgery.load import load_experts, open_converted
from v2w_convert.surgery.manifest import MANIFEST, read_manifest
from v2w_convert.world.experts import AnyWorld, experts_of
from v2w_convert.world.model import World
from v2w_convert.world.vae import VAE, looks_ahead, open_vae, require_frame_size

POOR_DB = 20  # below it, a picture that comes back from the autoencoder is hardly that picture
MAX_TEST_FRAMES = 4  # latent frames on which the autoencoder is tested
LOSS_STEPS = 100  # last steps over which the training loss that is reported is averaged
# Settings that may differ when a run is resumed.
NOT_COMPARED = {"validation", "device", "shard", *WATCHING, *RUNNING}


def finetune(
    converted: Path,
    data: Path,
    output: Path,
    settings: FinetuneSettings | None = None,
    *,
    progress: Progress | None = None,
) -> FinetuneResult:
    """Train the world model in `converted` on the data set `data`.

    Args:
        converted: A converted or finetuned model's folder.
        data: A data set that `open_dataset` reads.
        output: The run folder, which becomes a model folder of the same layout. New, empty, or the same run
            unfinished, which is then resumed: the result is the same bit for bit, on one machine. With a constant
            learning rate `steps` may have grown meanwhile. Beside the model it holds starts/, checkpoints/, latents/, log.jsonl, loss.png, run.json and config.yaml.
        settings: The settings; None for the defaults.
        progress: Called after each episode that is encoded and after each step.

    Raises:
        V2WError: Before anything is written: the data does not fit the model, the device is not there, or
            `output` is not this run's. Later: the loss is not finite (the last checkpoint stays), or the
            disk is full.

    On SIGTERM or SIGINT while it trains, the step is ended and a checkpoint written before the signal is obeyed.
    """
    settings = with_precision(settings or FinetuneSettings())
    progress = progress or no_progress
    require_packages(settings)
    watch = Watch(settings, output)
    model = open_converted(converted)
    manifest, _, resolved = model
    trained = experts_to_train(model, settings)
    if settings.frames % resolved.frames_per_block:
        found = f"the model takes blocks of {resolved.frames_per_block}"
        fitting = f"clips of {resolved.frames(settings.frames)}"
        raise V2WError(f"finetune on clips of {settings.frames} frames", found, fitting)
    if (settings.first_frames or 0) % resolved.frames_per_block:
        found = f"the model takes blocks of {resolved.frames_per_block}"
        fitting = f"--first-frames {resolved.frames(settings.first_frames or 0)}"
        raise V2WError(f"begin with clips of {settings.first_frames} frames", found, fitting)
    if settings.consistency and manifest.stage != "finetuned":
        raise V2WError(
            f"finetune {converted} with --consistency",
            "it learns what the model says when the run begins, and this one has not been finetuned",
            "a run of `v2w finetune` without it, first",
        )
    objective = decide(settings, resolved.noise.build(), settings.action_dropout)
    vae = open_vae(converted)
    paths = [data] if settings.validation is None else [data, settings.validation]
    train_set = open_dataset(data, settings, manifest.view)
    view = decided(train_set, settings, manifest.view, train_set.first().frames[0])
    sets = [train_set, *(open_dataset(path, settings, view) for path in paths[1:])]
    for data_set in sets:
        require_clips(data_set, manifest.action_dim, settings.frames, vae.packing)
    sources = choose_sources(
        converted,
        resolved,
        text=settings.text_condition,
        image=settings.image_condition,
        tasks=settings.text_condition == "task" and any(any(data_set.tasks) for data_set in sets),
    )
    for data_set in sets:
        require_tasks(data_set, sources)
    conditioned = Conditioned(converted, manifest, resolved, sources)
    record = describe_run(converted, sets, settings)
    inputs = [converted, *paths]
    require_own(output, record, inputs)
    if settings.cache is not None:
        require_outside(settings.cache, inputs, f"keep what is encoded in {settings.cache}")
    if (output / MANIFEST).exists():
        finished = finished_result(output)
        if finished.steps == settings.steps:
            return finished
    if settings.resume_from is not None and not any((output / CHECKPOINTS).glob("step-*")):
        require_checkpoint(settings.resume_from, record)
    remarks = []
    for data_set in sets:
        ranges = require_sound(data_set, f"finetune on {data_set.path}")
        remarks += [f"{data_set.name}: {remark}" for remark in [*told(ranges), *left_out(data_set)]]
    for remark in remarks:
        progress(ProgressEvent("note", detail=remark))

    accelerator = make_accelerator(settings)
    vae.to(accelerator.device)
    size, count = latent_size(vae, sets[0]), accelerator.num_processes
    announce_memory(trained, settings, size, accelerator.device, progress, count)
    world = load_experts(
        trained,
        model.source.boundary,
        device="cpu" if settings.shard else accelerator.device,  # it may not fit one device
        dtype=torch.float32,
        matrices=None if settings.weights == "float32" else torch.bfloat16,
    )
    for data_set in sets:
        require_fit(world, vae, data_set, accelerator)
    for remark in told_of_autoencoder(vae, train_set):
        progress(ProgressEvent("note", detail=remark))
        remarks.append(remark)
    facts = None if vae.single else describe_autoencoder(vae, sets[0])
    if facts is not None:
        record["autoencoder"] = asdict(facts)
    config = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    main = accelerator.is_main_process
    with locked(output, record, config, inputs) if main else nullcontext(), closing(watch):
        world.to("cpu")  # encoders need the memory
        cached = [
            cached_clips(data_set, conditioned, output, vae, settings, accelerator, progress)
            for data_set in sets
        ]
        if watch.every is not None and main:
            block, device = resolved.frames_per_block, accelerator.device
            watch.previews = prepare_previews(converted, sets[-1], vae, device, block, settings)
        if main and (odd := write_starts(sets[-1], output, vae.packing.frames(settings.frames))):
            remarks.append(odd)
            progress(ProgressEvent("note", detail=odd))
        del vae  # its memory is needed now
        if not settings.shard:
            world.to(accelerator.device)
        actions = cached[0].latents.action_statistics(sets[0].action_space)
        for expert, part in zip(trained.values(), experts_of(world).values(), strict=True):
            if expert.manifest.stage == "converted":  # one that was finetuned before has learned with its own
                set_action_statistics(part, actions, expert.source)
        levels = level_range(settings, model.source.boundary)
        training = prepare(world, settings, accelerator, levels, stored_weights(trained))
        clips, validation = cached[0], cached[1] if len(cached) > 1 else None
        log = train(world, training, clips, validation, settings, accelerator, output, progress, watch)
        result = make_result(output, record, log, facts, manifest.finetuning, sources, actions, objective)
        result = replace(result, data_view=view.said(), notes=[*result.notes, *remarks])
        values = by_expert(whole(training.averaged()), trained)
        if not main:
            return result
        write_atomically(output / LOSS_CURVE, lambda file: draw_log(log.lines, file))
        updates = {name: updates_in(tensors, settings) for name, tensors in values.items()}
        save_model(model, values, result.for_manifest(), output, updates, settings.lora_merge)
    return result


def describe_run(converted: Path, sets: list[Dataset], settings: FinetuneSettings) -> Record:
    """What makes a run the same run. `sets` are the data and, if any, the validation data."""
    described = [asdict(Input(data_set.name, data_set.fingerprint())) for data_set in sets]
    return {
        "version": version("v2w-convert"),
        "settings": settings.model_dump(mode="json", exclude=NOT_COMPARED),
        "converted": asdict(Input(converted.resolve().name, sha256(converted / MANIFEST))),
        "data": described[0],
        "validation": described[1] if len(described) > 1 else None,
    }


def cached_clips(
    data: Dataset,
    model: Conditioned,
    output: Path,
    vae: VAE,
    settings: FinetuneSettings,
    accelerator: Accelerator,
    progress: Progress,
) -> Clips:
    """The data's latents and conditions, encoded now or by an earlier run.

    Raises:
        V2WError: The data cannot be read or encoded.
    """
    cache = settings.cache or output / LATENTS
    processes, stride = processes_of(accelerator), settings.clip_stride
    latents = cached_latents(data, model.folder, cache, vae, settings.frames, progress, stride, processes)
    own = cached_conditions(data, latents, model, cache, vae, accelerator.device, progress, processes)
    if own is not None:
        own.require_alike(settings.text_dropout > 0)
    return Clips(latents, own, data.name)


def describe_autoencoder(vae: VAE, data: Dataset) -> AutoencoderFacts:
    """Measure an autoencoder with a temporal compression on the first frames of `data`."""
    frames = data.first().frames
    whole = vae.packing.frames(min(vae.packing.latents(len(frames)), MAX_TEST_FRAMES))
    return AutoencoderFacts(
        name=type(vae.autoencoder).__name__,
        temporal_compression=vae.packing.k,
        sees_later_frames=looks_ahead(vae, frames[:whole]),
    )


def make_result(
    output: Path,
    record: Record,
    log: Log,
    facts: AutoencoderFacts | None,
    before: dict[str, Any] | None,
    sources: Sources,
    actions: ActionStatistics,
    objective: Objective,
) -> FinetuneResult:
    """The result of a run with this log.

    Args:
        output: The run folder.
        record: What makes it the same run.
        log: The log of all steps.
        facts: What was measured of the autoencoder.
        before: The record of the run that trained the converted model, if any.
        sources: Which conditions were an episode's own.
        actions: Statistics of the data's actions.
        objective: What was minimised.
    """
    losses, validation = log.all("loss"), log.all("validation_loss")
    last = losses[-LOSS_STEPS:]
    return FinetuneResult(
        output=str(output),
        finished_before=False,
        settings=record["settings"],
        converted=Input(**record["converted"]),
        data=Input(**record["data"]),
        validation=Input(**record["validation"]) if record["validation"] else None,
        autoencoder=facts,
        steps=record["settings"]["steps"],
        loss=sum(last) / len(last),
        validation_loss=ValidationLoss(validation[0], validation[-1]) if validation else None,
        before=before,
        conditions=sources.record(),
        notes=list(sources.notes),
        actions=actions,
        objective=objective,
    )


def finished_result(output: Path) -> FinetuneResult:
    """The result of a run that was finished before, from its manifest.

    Raises:
        V2WError: The manifest does not say what a finished run's does.
    """
    said = {**(read_manifest(output).finetuning or {}), "output": str(output), "finished_before": True}
    try:
        return TypeAdapter(FinetuneResult).validate_python(said)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise V2WError(
            f"read the finished run {output}",
            [f"{MANIFEST}: {fault}" for fault in faults[:5]],
            "a new folder",
        ) from None


def require_fit(world: AnyWorld, vae: VAE, data: Dataset, accelerator: Accelerator) -> None:
    """Check that frames of `data`, as latents, go through the model.

    Raises:
        V2WError: They do not.
    """
    asked = f"finetune on {data.path}"
    frames = data.first().frames[: vae.packing.frames(1)]
    require_frame_size(vae, frames, asked)
    try:
        latent = vae.encode(frames)[None]
        with torch.no_grad(), accelerator.autocast():
            latent = latent.to(world.device)
            world(
                latent.expand(-1, world.frames_per_block, -1, -1, -1),
                torch.zeros(1, world.frames_per_block, device=latent.device),
            )
    except (RuntimeError, ValueError) as error:
        _, height, width, _ = frames.shape
        found = f"frames of {height} x {width} do not go through the model ({error})"
        raise V2WError(asked, found, "frames of another size") from None


def told_of_autoencoder(vae: VAE, data: Dataset) -> list[str]:
    """A warning where the autoencoder cannot hold pictures such as those of `data`; tried on its first ones."""
    frames = data.first().frames[: vae.packing.frames(1)]
    truth = torch.from_numpy(frames).movedim(-1, -3) / 255
    reached = float(psnr(vae.decode(vae.encode(frames)).cpu(), truth).mean())
    if reached >= POOR_DB:
        return []
    found = (
        f"{data.name}: a frame comes back from the autoencoder at {reached:.1f} dB (PSNR; 30 would be good)"
    )
    return [f"{found}, and no rollout can look better: it has to be fitted to such pictures first"]


def set_action_statistics(world: World, actions: ActionStatistics, source: Source) -> None:
    """Have the world's action layers normalise the data's actions to mean 0 and standard deviation 1, in place.

    A number that never changes is divided by 1. All are rounded to the dtype that they will be stored in, so that what is
    trained is what will run.

    Raises:
        V2WError: They are not finite in that dtype, or a standard deviation becomes 0.
    """
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (actions.mean, actions.std))
    std = torch.where(std > 0, std, 1.0)
    for name, operation in world.resolved.sites.items():
        if not operation.embeds_actions:
            continue
        stored = {
            tensor.removeprefix(f"{name}."): getattr(torch, str(DTYPES[info.dtype].torch))
            for tensor, info in source.tensors.items()
            if tensor.startswith(f"{name}.")
        }
        operation.set_action_statistics(world.sites[name], mean, std, stored)
