"""Conditions of an episode: its task as the prompt, and its first frame as the picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_convert.encoders.components import INSTALL, pipeline_name, transformers_installed
from v2w_convert.encoders.families import NO_PROMPT, PICTURES, PROMPTS
from v2w_convert.encoders.picture import picture_encoder, picture_obstacle
from v2w_convert.encoders.prompt import encode_prompts, prompt_obstacle
from v2w_convert.errors import V2WError
from v2w_convert.plan.call import Conditions
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.world.vae import VAE

Kind = Literal["text", "image_embeds", "image_latents"]
TASK, FIRST_FRAME = "task", "first frame"


@dataclass(frozen=True)
class Sources:
    """Which conditions are an episode's own. All others are those that the model has stored.

    Attributes:
        kinds: Condition -> what makes it: the prompt's encoder, the image encoder, the autoencoder.
        notes: Why others are not, in sentences for the user.
    """

    kinds: dict[str, Kind]
    notes: tuple[str, ...] = ()

    def names(self, *kinds: Kind) -> list[str]:
        """The conditions of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    def record(self) -> dict[str, str]:
        """Condition -> where it comes from, for the manifest."""
        return {name: TASK if kind == "text" else FIRST_FRAME for name, kind in self.kinds.items()}


def choose_sources(
    folder: Path,
    resolved: ResolvedPlan,
    *,
    text: Literal["task", "stored"] = "task",
    image: Literal["first_frame", "stored"] = "first_frame",
    tasks: bool,
) -> Sources:
    """Which conditions episodes can have of their own, with what is in `folder`.

    Args:
        folder: A converted folder.
        resolved: Its plan.
        text: Whether tasks become prompts.
        image: Whether first frames become pictures.
        tasks: Whether the data has tasks.

    Raises:
        V2WError: The folder has an encoder, and the package that runs it is not installed.
    """
    kinds: dict[str, Kind] = {}
    notes: list[str] = []
    if text == "task" and tasks:
        obstacle = prompt_obstacle(folder, resolved)
        _require_installed(obstacle, "use the data's tasks as prompts", "--text-condition stored")
        if obstacle is None:
            kinds |= dict.fromkeys(_known(resolved, PROMPTS[pipeline_name(folder)]), "text")
        elif "text" in resolved.call.conditions and obstacle != NO_PROMPT:
            notes.append(f"the data's tasks are not used as prompts: {obstacle}")
    if image == "first_frame":
        pictures = resolved.call.image_conditions
        kinds |= dict.fromkeys(pictures.conditions if pictures else (), "image_latents")
        obstacle = picture_obstacle(folder, resolved)
        _require_installed(obstacle, "embed first frames", "--image-condition stored")
        if obstacle is None:
            kinds |= dict.fromkeys([PICTURES[pipeline_name(folder)][1]], "image_embeds")
        elif _known(resolved, ["image_embeds", PICTURES.get(pipeline_name(folder), ("", ""))[1]]):
            notes.append(f"first frames are not embedded: {obstacle}")
    return Sources(kinds, tuple(notes))


def recorded_sources(resolved: ResolvedPlan, record: dict[str, str]) -> Sources:
    """What `Sources.record` told.

    Raises:
        V2WError: It names a condition that the model does not have.
    """
    if unknown := record.keys() - resolved.call.conditions.keys():
        raise V2WError(
            "read the conditions of the run", f"the model has no condition {', '.join(sorted(unknown))}"
        )
    pictures = resolved.call.image_conditions
    latents = pictures.conditions if pictures else {}
    return Sources(
        {
            name: "text" if source == TASK else "image_latents" if name in latents else "image_embeds"
            for name, source in record.items()
        }
    )


def one_task(tasks: tuple[str, ...], name: str, asked: str) -> str | None:
    """The prompt of an episode; None where it has no task.

    Raises:
        V2WError: It has several: a prompt holds for a whole episode.
    """
    if len(tasks) > 1:
        found = f"{name} has several tasks: {', '.join(map(repr, tasks[:3]))}"
        raise V2WError(asked, found, "an episode for each, or --text-condition stored")
    return tasks[0] if tasks else None


def prompt_conditions(
    folder: Path, resolved: ResolvedPlan, prompts: Sequence[str], device: torch.device
) -> dict[str, Conditions]:
    """The conditions of each different prompt, unbatched, on the CPU.

    Raises:
        V2WError: As `encode_prompts`; or their tokens differ in number, so that they cannot be given side by side.
    """
    different = list(dict.fromkeys(prompts))
    encoded = dict(zip(different, encode_prompts(folder, resolved, different, device), strict=True))
    shapes = {tuple(tuple(value.shape) for value in found.values()) for found in encoded.values()}
    if len(shapes) > 1:
        lengths = sorted({len(found["text"]) for found in encoded.values()})
        raise V2WError(
            "use the data's tasks as prompts",
            f"this family's prompts are as long as their text: {lengths[0]} to {lengths[-1]} tokens, without a mask",
            "--text-condition stored, or tasks of one length",
        )
    return encoded


def picture_conditions(
    folder: Path,
    resolved: ResolvedPlan,
    sources: Sources,
    vae: VAE,
    pictures: Iterator[NDArray[np.uint8]],
    frames: int,
    device: torch.device,
) -> Iterator[Conditions]:
    """The conditions of each picture (height width 3), unbatched, on the CPU.

    What every frame receives is (T c h w), for the first T ≤ `frames` latent frames of a clip: the last one holds for
    all after it.

    Raises:
        V2WError: The autoencoder or the image encoder does not fit the denoiser.
    """
    names, embeds = sources.names("image_latents"), sources.names("image_embeds")
    make = resolved.call.image_conditions

    def latents(picture: NDArray[np.uint8]) -> Conditions:
        if not names or make is None:
            return {}
        with torch.no_grad():
            made = make(vae, picture, frames)
        return {name: _without_repetition(made[name].float().cpu()) for name in names}

    if not embeds:
        yield from map(latents, pictures)
        return
    with picture_encoder(folder, resolved, device) as encode:
        for picture in pictures:
            yield latents(picture) | encode(picture)


def _without_repetition(entries: torch.Tensor) -> torch.Tensor:
    """(T …) without the entries at the end that repeat the one before them."""
    kept = len(entries)
    while kept > 1 and torch.equal(entries[kept - 1], entries[kept - 2]):
        kept -= 1
    return entries[:kept].clone()


def _known(resolved: ResolvedPlan, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in resolved.call.conditions]


def _require_installed(obstacle: str | None, asked: str, instead: str) -> None:
    if obstacle is not None and INSTALL in obstacle and not transformers_installed():
        raise V2WError(asked, "transformers is not installed", f"{INSTALL}, or {instead}")
