"""Finetune a converted model on action data: what completes the transfer that surgery began."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from v2w_convert.checkpoint.headers import DTYPES
from v2w_convert.checkpoint.output import sha256
from v2w_convert.checkpoint.source import Source
from v2w_convert.data import lerobot
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.curve import draw_log
from v2w_convert.finetuning.export import save_model
from v2w_convert.finetuning.latents import LatentDataset, check_data, encoded, fingerprint
from v2w_convert.finetuning.loop import prepare, train
from v2w_convert.finetuning.run import CURVE, LATENTS, Log, Record, claimed, require_own, write_atomically
from v2w_convert.finetuning.settings import ProgressCallback, Settings, no_progress
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.surgery.manifest import MANIFEST, Manifest, read_manifest
from v2w_convert.world.model import World
from v2w_convert.world.vae import VAE, looks_ahead, open_vae, require_frame_size

TRIED = 4  # latent frames on which the autoencoder is tried
LAST = 100  # steps over which the training loss that is reported is averaged


def finetune(
    converted: Path,
    data: Path,
    output: Path,
    settings: Settings,
    progress: ProgressCallback = no_progress,
    device: str | None = None,
) -> dict[str, Any]:
    """Train the world model in `converted` on the LeRobot set `data`; `output` becomes a folder of the same layout.

    output    new, empty, or an earlier start of the same run, which is then gone on with: the result is the same
              bit for bit, on one machine. Beside the model it holds checkpoints/, latents/, log.jsonl,
              loss.png, run.json.
    progress  called after every episode encoded and every step made
    device    a type, such as cpu; None: as accelerate finds it

    Returns what the manifest says under `finetuning`, with `output`, and `finished_before`: nothing was left to do.
    Raises V2WError, before anything is written, if the data does not fit the model or the output is not this run's;
    later if the loss is not finite (the last good checkpoint stays) or the disk is full.
    """
    manifest, source, resolved = open_converted(converted)
    if settings.frames % resolved.frames_per_block:
        found = f"the model takes blocks of {resolved.frames_per_block}"
        fitting = f"clips of {resolved.frames(settings.frames)}"
        raise V2WError(f"finetune on clips of {settings.frames} frames", found, fitting)
    pixels = open_vae(converted)
    sets = [data] if settings.validation is None else [data, settings.validation]
    for folder in sets:
        check_data(folder, manifest.action_dim, settings.frames, pixels.packing)
    record = describe(converted, data, settings)
    inputs = [converted, *sets]
    require_own(output, record, inputs)
    if (output / MANIFEST).exists():
        return {"output": str(output), "finished_before": True, **(read_manifest(output).finetuning or {})}

    accelerator = start(settings, device)
    world = load(converted, device=accelerator.device, dtype=torch.float32)
    pixels.to(accelerator.device)
    for folder in sets:
        require_fit(world, pixels, folder, settings.camera)
    if not pixels.single:
        record["autoencoder"] = describe_autoencoder(pixels, data, settings)
    with claimed(output, record, inputs):
        cached = [
            encoded(folder, converted, output / LATENTS, pixels, settings.camera, settings.frames, progress)
            for folder in sets
        ]
        del pixels  # its memory is wanted now
        if manifest.stage == "converted":  # a model that was finetuned before has got used to its own
            normalise(world, cached[0], source)
        training = prepare(world, settings, accelerator)
        clips, held_out = cached[0], cached[1] if len(cached) > 1 else None
        log = train(world, training, clips, held_out, settings, accelerator, output, progress)
        finetuning = summary(manifest, record, log)
        write_atomically(output / CURVE, lambda file: draw_log(log.lines, file))
        save_model(source, manifest, training.averaged(), finetuning, output)
    return {"output": str(output), "finished_before": False, **finetuning}


def describe(converted: Path, data: Path, settings: Settings) -> Record:
    """What makes a run the same run."""

    def data_set(folder: Path) -> dict[str, str]:
        return {"name": folder.resolve().name, "sha256": fingerprint(folder, settings.camera)}

    return {
        "version": version("v2w-convert"),
        "settings": settings.model_dump(mode="json", exclude={"validation"}),
        "converted": {"name": converted.resolve().name, "sha256": sha256(converted / MANIFEST)},
        "data": data_set(data),
        "validation": data_set(settings.validation) if settings.validation else None,
    }


def describe_autoencoder(pixels: VAE, data: Path, settings: Settings) -> dict[str, Any]:
    """How it packs frames, and whether its latents see later ones, tried on the first pictures of `data`."""
    frames = next(lerobot.read(data, settings.camera)).frames
    whole = pixels.packing.frames(min(pixels.packing.latents(len(frames)), TRIED))
    return {
        "class": type(pixels.autoencoder).__name__,
        "video_frames_per_latent_frame": pixels.packing.k,
        "sees_later_frames": looks_ahead(pixels, frames[:whole]),
    }


def summary(manifest: Manifest, record: Record, log: Log) -> dict[str, Any]:
    """What the manifest says of the run."""
    losses, validation = log.all("loss"), log.all("validation_loss")
    last = losses[-LAST:]
    return {
        **{key: record[key] for key in ("settings", "converted", "data", "validation")},
        **{key: record[key] for key in ("autoencoder",) if key in record},
        "steps": record["settings"]["steps"],
        "loss": sum(last) / len(last),
        "validation_loss": {"first": validation[0], "last": validation[-1]} if validation else None,
        "before": manifest.finetuning,
    }


def start(settings: Settings, device: str | None) -> Accelerator:
    asked = f"finetune on {device or 'this machine'} with mixed precision {settings.mixed_precision!r}"
    try:
        accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision=settings.mixed_precision,
            gradient_accumulation_steps=settings.gradient_accumulation,
        )
    except ValueError as error:
        raise V2WError(asked, str(error)) from None
    if accelerator.num_processes > 1:
        raise V2WError(
            asked, f"{accelerator.num_processes} processes", "one: gradients are not shared between several"
        )
    if device is not None and accelerator.device.type != device:
        raise V2WError(asked, f"accelerate found {accelerator.device}", "--device cpu, or none")
    return accelerator


def require_fit(world: World, pixels: VAE, data: Path, camera: str | None) -> None:
    """Raises V2WError if the data's pictures, as latents, are of a size or shape that the model cannot take."""
    episode = next(lerobot.read(data, camera))
    picture = episode.frames[: pixels.packing.frames(1)]
    require_frame_size(pixels, picture, f"finetune on {data}")
    try:
        latent = pixels.encode(picture)[None]
        with torch.no_grad():
            world(
                latent.expand(-1, world.frames_per_block, -1, -1, -1),
                torch.zeros(1, world.frames_per_block, device=latent.device),
            )
    except (RuntimeError, ValueError) as error:
        _, height, width, _ = picture.shape
        found = f"pictures of {height} x {width} do not go through the model ({error})"
        raise V2WError(f"finetune on {data}", found, "another size of pictures") from None


def normalise(world: World, clips: LatentDataset, source: Source) -> None:
    """Have the world's action layers bring the data's actions to mean 0 and deviation 1. In place.

    Both numbers are rounded to the dtype that they will be stored in, so that what is trained is what will run.
    """
    mean, deviation = clips.action_moments()
    for name, operation in world.resolved.sites.items():
        stored = {
            tensor.removeprefix(f"{name}."): getattr(torch, str(DTYPES[info.dtype].torch))
            for tensor, info in source.tensors.items()
            if operation.embeds_actions and tensor.startswith(f"{name}.")
        }
        operation.set_action_statistics(world.sites[name], mean, deviation, stored)
