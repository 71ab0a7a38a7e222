"""What finetuning a model on a data set takes, before anything large is read."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from v2w_convert.data import Dataset, open_dataset
from v2w_convert.device import resolve_device
from v2w_convert.finetuning.budget import Budget, advise, count_budget, require_memory
from v2w_convert.finetuning.experts import experts_to_train
from v2w_convert.finetuning.latents import require_clips
from v2w_convert.finetuning.lora import require_peft
from v2w_convert.finetuning.optimizers import require_optimizer
from v2w_convert.finetuning.precision import with_precision
from v2w_convert.finetuning.processes import require_shares
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.progress import Progress, ProgressEvent
from v2w_convert.surgery.load import Converted, open_converted
from v2w_convert.world.vae import VAE, open_vae, require_frame_size

LARGE = 100_000_000  # numbers in a model whose activations are counted before every run


def plan_memory(converted: Path, data: Path, settings: FinetuneSettings, processes: int = 1) -> Budget:
    """The budget of finetuning the model in `converted` on the data set `data`. The denoiser's weights are not read.

    Raises:
        V2WError: The data does not fit the model, the device is not there, a package is missing, or so many processes cannot
            share the work.
    """
    settings = with_precision(settings)
    require_shares(settings, processes)
    device = resolve_device(settings.device)
    require_packages(settings)
    model = open_converted(converted)
    trained = experts_to_train(model, settings)
    vae = open_vae(converted)
    data_set = open_dataset(data, settings, model.manifest.view)
    require_clips(data_set, model.manifest.action_dim, settings.frames, vae.packing)
    count = partial(_count, trained, latent_size(vae, data_set), device, processes)
    return advise(count(settings), settings, count)


def require_packages(settings: FinetuneSettings) -> None:
    """Check that the packages are there which the settings need.

    Raises:
        V2WError: One is not.
    """
    require_optimizer(settings)
    if settings.train == "lora":
        require_peft()


def announce_memory(
    trained: Mapping[str, Converted],
    settings: FinetuneSettings,
    size: tuple[int, int],
    device: torch.device,
    progress: Progress,
    processes: int = 1,
) -> None:
    """Say what a run will take, as a note. Activations are counted for large models only: it takes seconds.

    Args:
        trained: The denoisers that are trained.
        settings: The settings.
        size: Height and width of the latents.
        device: Where it trains.
        progress: Receives the note.
        processes: How many share the work.

    Raises:
        V2WError: What the run keeps from step to step does not fit.
    """
    large = sum(map(_numbers, trained.values())) > LARGE
    budget = count_budget(trained, settings, size, device, activations=large, processes=processes)
    if not budget.fits:
        count = partial(_count, trained, size, device, processes)
        budget = advise(count(settings), settings, count)
    require_memory(budget)
    advice = (
        ""
        if budget.fits
        else f". That may not fit; try {' and '.join(budget.advice) or 'a smaller --frames'}"
    )
    progress(ProgressEvent("note", detail=budget.words() + advice))


def latent_size(vae: VAE, data: Dataset) -> tuple[int, int]:
    """Height and width of the latents of the data's frames.

    Raises:
        V2WError: The autoencoder does not take frames of their size.
    """
    frames = data.first().frames[: vae.packing.frames(1)]
    require_frame_size(vae, frames, f"finetune on {data.path}")
    height, width = vae.encode(frames).shape[-2:]
    return int(height), int(width)


def _count(
    trained: Mapping[str, Converted],
    size: tuple[int, int],
    device: torch.device,
    processes: int,
    settings: FinetuneSettings,
) -> Budget:
    require_packages(settings)
    require_shares(settings, processes)
    return count_budget(trained, settings, size, device, processes=processes)


def _numbers(model: Converted) -> int:
    return sum(parameter.numel() for parameter in model.resolved.base.parameters())
