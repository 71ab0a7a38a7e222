"""The conditions of rollouts: those that the model was finetuned with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_convert.encoders.episode import (
    Sources,
    choose_sources,
    one_task,
    picture_conditions,
    prompt_conditions,
    recorded_sources,
)
from v2w_convert.encoders.prompt import encode_prompts
from v2w_convert.plan.call import Conditions
from v2w_convert.surgery.conditions import picture_frames, stored_conditions
from v2w_convert.surgery.load import open_converted
from v2w_convert.surgery.manifest import CONDITIONS
from v2w_convert.world.vae import VAE


def rollout_conditions(
    folder: Path,
    vae: VAE,
    tasks: Sequence[tuple[str, ...]],
    pictures: Sequence[NDArray[np.uint8]],
    device: torch.device,
    prompt: str | None = None,
) -> tuple[Conditions, Sources]:
    """The conditions of n rollouts, before their model is loaded: the encoders need the memory.

    A model that was finetuned gets what it was finetuned with; one that was not, what finetuning would give it.

    Args:
        folder: A converted or finetuned model's folder.
        vae: Its autoencoder.
        tasks: Of each rollout's episode.
        pictures: The first frame (height width 3) of each.
        device: Where to encode.
        prompt: Instead of the tasks.

    Returns:
        Conditions (n …) on the CPU, of the model's own those that are not there; and what they were made of.

    Raises:
        V2WError: An episode has several tasks, there is no encoder for `prompt`, or one cannot be read.
    """
    manifest, _, resolved = open_converted(folder)
    if manifest.finetuning is None:
        sources = choose_sources(folder, resolved, tasks=prompt is None and any(tasks))
    else:
        sources = recorded_sources(resolved, manifest.finetuning.get("conditions", {}))
    stored = stored_conditions(resolved, folder / CONDITIONS)
    texts = sources.names("text")
    found: Conditions = {}
    if prompt is not None:
        [encoded] = encode_prompts(folder, resolved, [prompt], device)
        found = {name: value.expand(len(pictures), *value.shape) for name, value in encoded.items()}
    elif texts:
        asked = f"use tasks as prompts of {folder}"
        said = [one_task(several, f"episode {number}", asked) for number, several in enumerate(tasks)]
        encoded_by = prompt_conditions(folder, resolved, [text for text in said if text is not None], device)
        for name in texts:
            values = [stored[name] if text is None else encoded_by[text][name] for text in said]
            found[name] = torch.stack(values)
    made = list(
        picture_conditions(
            folder, resolved, sources, vae, iter(pictures), picture_frames(manifest, resolved), device
        )
    )
    for name in sources.names("image_embeds", "image_latents"):
        found[name] = torch.stack([own[name] for own in made])
    return found, sources
