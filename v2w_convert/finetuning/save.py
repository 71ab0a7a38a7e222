"""The averaged weights as a folder of the converted model's layout: what `load` and all other commands take."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from v2w_convert.checkpoint.digests import file_digest
from v2w_convert.checkpoint.headers import DTYPES
from v2w_convert.checkpoint.output import copy_content, write_safetensors
from v2w_convert.checkpoint.source import Source
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.run_folder import (
    CHECKPOINTS,
    CONFIG,
    LATENTS,
    LOG,
    LOSS_CURVE,
    RECORD,
    write_atomically,
    write_json,
)
from v2w_convert.surgery.card import CARD, card_text
from v2w_convert.surgery.load import Converted
from v2w_convert.surgery.manifest import MANIFEST

RUN_FILES = (CHECKPOINTS, LATENTS, LOG, LOSS_CURVE, RECORD, CONFIG, CARD, MANIFEST)  # not copied


def save_model(
    model: Converted, values: dict[str, dict[str, Tensor]], finetuning: dict[str, Any], output: Path
) -> None:
    """Write every file of the converted model into `output`, its weights replaced by `values`.

    File by file, each whole or not at all, the manifest last: without it `output` is not taken for a model.

    Args:
        model: The converted model.
        values: For each denoiser that was trained, weights by name, of any dtype and device; each is stored in the
            dtype that it has in `model`. Files of one that was not trained are copied.
        finetuning: The record of the run, for the manifest.
        output: The run folder.

    Raises:
        V2WError: A value is too large for its dtype.
    """
    source, manifest = model.source, model.manifest
    plain = list(source.others)
    for name, expert in source.experts.items():
        component = source.folder / expert.component
        plain += [file.relative_to(source.folder) for file in component.glob("*.json")]
        plain += [] if name in values else [file.relative_to(source.folder) for file in expert.files]
    for relative in sorted(path for path in plain if path.parts[0] not in RUN_FILES):
        write_atomically(output / relative, partial(copy_content, source.folder / relative))
    for name, trained in values.items():
        _save_weights(source.experts[name], trained, output)
    result = {path: file_digest(output / path) for path in manifest.result}
    update = {"result": result, "finetuning": finetuning}
    manifest = manifest.trained(values).model_copy(update=update)
    write_atomically(output / CARD, lambda file: file.write_text(card_text(manifest), encoding="utf-8"))
    write_json(output / MANIFEST, manifest.model_dump())


def _save_weights(source: Source, values: dict[str, Tensor], output: Path) -> None:
    for file in source.files:
        infos = [(name, info.dtype, info.shape) for name, info in source.tensors.items() if info.file == file]
        stored = ((name, as_stored(name, values[name], code, output)) for name, code, _ in infos)
        write_atomically(
            output / source.component / file.name,
            partial(write_safetensors, tensors=stored, infos=infos, metadata={"format": "pt"}),
        )


def as_stored(name: str, value: Tensor, code: str, output: Path) -> Tensor:
    """Return `value` in the dtype that safetensors calls `code`.

    Raises:
        V2WError: It is not finite in that dtype.
    """
    stored = value.detach().to(getattr(torch, str(DTYPES[code].torch)))
    if not bool(torch.isfinite(stored).all()):
        raise V2WError(
            f"write {output}", f"{name} is too large for {stored.dtype}", "a base stored in bfloat16"
        )
    return stored
