"""What a visitor starts from, and what they can do: latents of first frames, and controls by name."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_convert.data import Dataset
from v2w_convert.data.check import require_sound
from v2w_convert.data.starts import spread
from v2w_convert.errors import V2WError
from v2w_convert.escape import printable
from v2w_convert.evaluation.action_parts import parts_of
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.onnx_export.conditions import ConditionInput, fit_conditions
from v2w_convert.world.temporal_compression import require_actions
from v2w_convert.world.vae import VAE, require_frame_size

Tensors = dict[str, NDArray[Any]]


def chosen(data: Dataset, history: int, count: int) -> list[int]:
    """`count` episodes, evenly spaced among those that are long enough; fewer if there are not as many.

    Raises:
        V2WError: None is.
    """
    found = spread(data.lengths, history, count)
    if not found:
        longest = max(data.lengths, default=0)
        raise V2WError(
            f"start from {history} frames of {data.path}", f"the longest episode has {longest}", "--history"
        )
    return found


def encoded(data: Dataset, number: int, history: int, vae: VAE) -> tuple[Tensors, Any]:
    """The first frames of an episode: `latents` (history c h w) and `actions` (history a), float32; and the episode.

    Raises:
        V2WError: Frames of this size do not go through the autoencoder.
    """
    episode = next(iter(data.episodes_from(number)))
    observed = episode.frames[:history]
    require_frame_size(vae, observed, f"start from episode {number} of {data.path}")
    latents = vae.encode(observed).numpy()
    return {"latents": latents, "actions": episode.arriving_actions[:history]}, episode


def own_conditions(folder: Path, vae: VAE, inputs: dict[str, ConditionInput], episode: Any) -> Tensors:
    """The conditions of one rollout that are inputs of the graph, by the input's name.

    Raises:
        V2WError: They cannot be made.
    """
    device = torch.device("cpu")
    given, _ = rollout_conditions(folder, vae, [episode.tasks], [episode.frames[0]], device)
    fitted = fit_conditions(inputs, {name: given[name].numpy() for name in inputs if name in given})
    return {f"condition.{name}": value for name, value in fitted.items()}


def controls(data: Dataset, action_dim: int, vae: VAE) -> list[dict[str, Any]]:
    """What of an action a visitor sets: keys and choices by name, amounts by their range in the data.

    Returns:
        Each with its `label`, its `kind` (`key`: 0 or 1; `choice`: one of several is 1; `amount`), `at`, its place in the
        action, and of amounts `low` and `high`. Choices of one group have the same `group`.

    Raises:
        V2WError: The data's actions are not the model's, or not sound.
    """
    asked = f"export a page with {data.path}"
    require_actions(asked, data.action_dim, action_dim, vae.packing, "the data that the model was made for")
    ranges = require_sound(data, asked)
    recorded = torch.from_numpy(np.concatenate([actions[:-1] for actions in data.actions()]))
    names = [printable(name) for name in data.action_names]
    found: list[dict[str, Any]] = []
    for group, part in enumerate(parts_of(data.action_space, recorded)):
        for at in range(part.start, part.start + part.size):
            label = names[at].removeprefix(f"{printable(part.name)}=")
            if part.kind == "discrete":
                found.append({"label": label, "kind": "choice", "at": at, "group": group})
            elif part.kind == "multi_binary":
                found.append({"label": label, "kind": "key", "at": at})
            else:
                low, high = float(ranges.low[at]), float(ranges.high[at])
                found.append({"label": label, "kind": "amount", "at": at, "low": low, "high": high})
    return found
