"""The averaged weights as a folder of the converted model's layout: what `load` and all other commands take."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from v2w_convert.checkpoint import adapter
from v2w_convert.checkpoint.adapter import ADAPTER, Update, adapter_config, adapter_tensors
from v2w_convert.checkpoint.digests import file_digest
from v2w_convert.checkpoint.headers import DTYPES, TensorInfo
from v2w_convert.checkpoint.output import copy_content, write_safetensors
from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.data.starts import STARTS
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.run_folder import (
    CHECKPOINTS,
    CONFIG,
    LATENTS,
    LOG,
    LOSS_CURVE,
    RECORD,
    ROLLOUTS,
    TENSORBOARD,
    write_atomically,
    write_json,
)
from v2w_convert.surgery.card import CARD, card_text
from v2w_convert.surgery.load import Converted
from v2w_convert.surgery.manifest import MANIFEST

WATCHED = (ROLLOUTS, TENSORBOARD)
OWN = (CHECKPOINTS, LATENTS, STARTS, LOG, LOSS_CURVE, RECORD, CONFIG, CARD, MANIFEST)
RUN_FILES = (*OWN, *WATCHED)  # not copied


def save_model(
    model: Converted,
    values: Mapping[str, Mapping[str, Tensor]],
    finetuning: dict[str, Any],
    output: Path,
    updates: Mapping[str, Mapping[str, Update]] | None = None,
    merge: bool = False,
) -> None:
    """Write every file of the converted model into `output`, its weights replaced by `values`.

    File by file, each whole or not at all, the manifest last: without it `output` is not taken for a model.

    Args:
        model: The converted model.
        values: For each denoiser that was trained, what was trained of it and its buffers, by name, of any dtype and device;
            each is stored in the dtype that it has in `model`, and all else as it is. Files of one that was not trained
            are copied. Where `model` has updates of low rank, they are added to its weights.
        finetuning: The record of the run, for the manifest.
        output: The run folder.
        updates: For each of these denoisers, the updates of its layers, which become its adapter.
        merge: Whether they are added to the weights instead.

    Raises:
        V2WError: A value is too large for its dtype.
    """
    source, manifest = model.source, model.manifest
    (output / MANIFEST).unlink(missing_ok=True)  # of a run that has grown
    plain = [path for path in source.others if path.parent.name != ADAPTER]
    rewritten = {name for name, expert in source.experts.items() if name in values or expert.has_updates}
    for name, expert in source.experts.items():
        component = source.folder / expert.component
        plain += [file.relative_to(source.folder) for file in component.glob("*.json")]
        plain += [] if name in rewritten else [file.relative_to(source.folder) for file in expert.files]
    for relative in sorted(path for path in plain if path.parts[0] not in RUN_FILES):
        write_atomically(output / relative, partial(copy_content, source.folder / relative))
    names = [path for path in manifest.result if Path(path).parent.name != ADAPTER]
    for name, expert in source.experts.items():
        of_expert = (updates or {}).get(name, {})
        if name in rewritten:
            _save_weights(expert, values.get(name, {}), of_expert if merge else {}, output)
        if of_expert and not merge:
            names += _save_adapter(expert, of_expert, output)
    result = {path: file_digest(output / path) for path in names}
    update = {"result": result, "finetuning": finetuning}
    manifest = manifest.trained(list(values)).model_copy(update=update)
    write_atomically(output / CARD, lambda file: file.write_text(card_text(manifest), encoding="utf-8"))
    write_json(output / MANIFEST, manifest.model_dump())


def _save_weights(
    source: Source, values: Mapping[str, Tensor], merged: Mapping[str, Update], output: Path
) -> None:
    weights = {f"{layer}.weight": update for layer, update in merged.items()}

    def value_of(name: str, info: TensorInfo) -> Tensor:
        if name in values:
            return values[name]
        if name not in weights:
            return read_tensor(info)
        weight, update = read_tensor(info, torch.float32), weights[name]
        up, down = (x.detach().to(weight) for x in (update.up, update.down))
        return weight.addmm_(up, down, alpha=update.scale)

    for file in source.files:
        infos = {name: info for name, info in source.tensors.items() if info.file == file}
        stored = (
            (name, as_stored(name, value_of(name, info), info.dtype, output)) for name, info in infos.items()
        )
        write_atomically(
            output / source.component / file.name,
            partial(
                write_safetensors,
                tensors=stored,
                infos=[(name, info.dtype, info.shape) for name, info in infos.items()],
                metadata={"format": "pt"},
            ),
        )


def _save_adapter(source: Source, updates: Mapping[str, Update], output: Path) -> list[str]:
    """Write the adapter of a denoiser; the paths of its files, relative to `output`."""
    folder = Path(source.component, ADAPTER)
    tensors = {name: tensor.detach().float() for name, tensor in adapter_tensors(updates).items()}
    infos = [(name, "F32", tuple(tensor.shape)) for name, tensor in tensors.items()]
    first = next(iter(updates.values()))
    rank = len(first.down)
    text = adapter_config(rank, first.scale * rank, list(updates))
    write_atomically(
        output / folder / adapter.WEIGHTS,
        partial(write_safetensors, tensors=tensors.items(), infos=infos, metadata={"format": "pt"}),
    )
    write_atomically(output / folder / adapter.CONFIG, lambda file: file.write_text(text, encoding="utf-8"))
    return [str(folder / name) for name in (adapter.CONFIG, adapter.WEIGHTS)]


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
