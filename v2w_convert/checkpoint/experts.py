"""A pipeline with two denoisers, *experts*, each for a range of noise levels (Wan 2.2 A14B).

diffusers' pipelines ask `transformer` where the timestep is at least `boundary_ratio` times the number of training
timesteps, and `transformer_2` below that; without a `boundary_ratio` they never ask `transformer_2` (pipelines/wan).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.source import Choice, Source
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object

HIGH_NOISE, LOW_NOISE = "transformer", "transformer_2"
BOUNDARY = "boundary_ratio"  # in model_index.json
FOLDERS = f"{HIGH_NOISE}/ and {LOW_NOISE}/ are models of their own"


def with_low_noise(source: Source, open_folder: Callable[[Path, str, Choice], Source], asked: str) -> Source:
    """`source`, the pipeline's first denoiser, together with its second one, if the pipeline has two.

    Args:
        source: A folder's.
        open_folder: Opens a model's folder.
        asked: What for, as errors say it.

    Raises:
        V2WError: Only one of the second denoiser and the boundary is there, the boundary is not a number in (0, 1], the
            two are not of one architecture, or the second cannot be read.
    """
    index = source.folder / "model_index.json"
    if source.component != HIGH_NOISE or not index.is_file():
        return source
    entries = read_object(index)
    named, boundary = _is_named(entries.get(LOW_NOISE)), entries.get(BOUNDARY)
    model = source.folder / LOW_NOISE
    if not named:
        if boundary is not None:
            raise V2WError(
                asked, f"{BOUNDARY} is {boundary!r:.80}, but {index} names no {LOW_NOISE}", FOLDERS
            )
        if not model.is_dir():
            return source
        note = f"{LOW_NOISE} is not part of the pipeline, by model_index.json: it is copied, not converted"
        return replace(source, notes=(*source.notes, note))
    if boundary is None:
        missing = f"{HIGH_NOISE} and {LOW_NOISE} exist, but {index} has no {BOUNDARY} between them"
        raise V2WError(asked, missing, f"its {BOUNDARY}, such as 0.875; {FOLDERS}")
    if type(boundary) not in (int, float) or not 0 < boundary <= 1:
        raise V2WError(asked, f"{BOUNDARY} in {index} is {boundary!r:.80}, not a number in (0, 1]")
    if model.is_symlink():
        raise V2WError(
            asked, f"{model} is a link to {os.path.realpath(model)}", "copy the folder itself there"
        )
    if not (model / "config.json").is_file():
        raise V2WError(asked, f"{index} names {LOW_NOISE}, but there is no {model / 'config.json'}", FOLDERS)
    second = open_folder(model, asked, source.choice)
    before, after = _architecture(source.config), _architecture(second.config)
    if faults := sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)):
        raise V2WError(asked, f"{HIGH_NOISE} and {LOW_NOISE} differ in {', '.join(faults)}", FOLDERS)
    second = replace(
        second,
        folder=source.folder,
        component=LOW_NOISE,
        scheduler=source.scheduler,
        others=tuple(Path(LOW_NOISE) / other for other in second.others),
        converted=source.converted,
    )
    return replace(
        source,
        others=tuple(path for path in source.others if path.parts[0] != LOW_NOISE) + second.others,
        notes=(*source.notes, *(f"{LOW_NOISE}: {note}" for note in second.notes)),
        low_noise=second,
        boundary=float(boundary),
    )


def _is_named(entry: Any) -> bool:
    """Whether a component is there, by its entry in model_index.json: null, or [null, null], says that it is not."""
    return entry is not None and entry != [None, None]


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config without what says where it came from; diffusers' private entries begin with "_"."""
    return {key: value for key, value in config.items() if key == "_class_name" or not key.startswith("_")}
