"""The files of one converted denoiser: weights, index and config."""

import json
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.output_files import ByteRange, Generated, OutputFile, copied_file, text_file
from v2w_convert.checkpoint.source import WEIGHTS_FILE, WEIGHTS_INDEX, Source, read_tensor
from v2w_convert.errors import V2WError
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.change import TensorStatus, added_tensors, initial_tensor, transfer_tensor
from v2w_convert.surgery.pipeline import json_text, kept_parts, ranges_of, weights_file

FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_CODES = {dtype: code for code, dtype in FLOAT_DTYPES.items()}
ADDED_WEIGHTS = "v2w_added.safetensors"


def model_files(
    source: Source, resolved: ResolvedPlan, action_dim: int, seed: int
) -> tuple[list[OutputFile], dict[str, TensorStatus]]:
    """The files of a converted denoiser, and what becomes of every tensor. No weight is read."""
    dtype = stored_dtype(source)
    changed = {
        name
        for name, tensor in resolved.base.state_dict().items()
        if transfer_tensor(resolved, name, torch.empty(tensor.shape, device="meta")) is not None
    }
    shapes = added_tensors(resolved, resolved.base, action_dim)

    def transfer(name: str, info: TensorInfo) -> Any:
        value = transfer_tensor(resolved, name, read_tensor(info))
        assert value is not None, name
        return to_bytes(value, FLOAT_DTYPES[info.dtype], info.shape)

    def draw(name: str) -> Any:
        return to_bytes(initial_tensor(resolved, name, shapes[name], seed).to(dtype), dtype, shapes[name])

    def parts(name: str, info: TensorInfo) -> list[ByteRange | Generated]:
        if name not in changed:
            return kept_parts(name, info)
        return [Generated(info.size, f"{name}, transferred", partial(transfer, name, info), ranges_of(info))]

    component = f"{source.component}/" if source.component else ""
    items = []
    placed: dict[str, str] = {}
    for file in source.files:
        infos = {name: info for name, info in source.tensors.items() if info.file == file}
        place = WEIGHTS_FILE if len(source.files) == 1 and source.pipeline else f"{file.stem}.safetensors"
        placed |= dict.fromkeys(infos, place)
        as_it_is = place == file.name and not source.renamed
        if as_it_is and not changed & infos.keys():  # one link will do
            items.append(copied_file(component + place, file))
            continue
        headers = [(name, info.dtype, info.shape) for name, info in infos.items()]
        bytes_of = [part for entry in infos.items() for part in parts(*entry)]
        items.append(weights_file(component + place, headers, bytes_of))
    if shapes:
        headers = [(name, DTYPE_CODES[dtype], shape) for name, shape in shapes.items()]
        new = [
            Generated(math.prod(shape) * dtype.itemsize, f"{name}, added", partial(draw, name))
            for name, shape in shapes.items()
        ]
        items.append(weights_file(component + ADDED_WEIGHTS, headers, new))
        placed |= dict.fromkeys(shapes, ADDED_WEIGHTS)
    # By the index diffusers and v2w find every tensor's file.
    total = sum(info.size for info in source.tensors.values())
    total += sum(math.prod(shape) * dtype.itemsize for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    items.append(text_file(component + WEIGHTS_INDEX, json.dumps(index, indent=1, allow_nan=False) + "\n"))
    # diffusers warns about unknown config entries, so whoever loads this folder as the base sees a warning.
    config = source.config | {"v2w": "a world model: load it with v2w_convert.load"}
    items.append(text_file(component + "config.json", json_text(config)))
    fates: dict[str, TensorStatus] = {
        name: "transferred" if name in changed else "kept" for name in source.tensors
    }
    return items, fates | dict.fromkeys(shapes, "added")


def to_bytes(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Any:
    """The tensor's bytes as stored in a file; an AssertionError if dtype or shape differ from the header."""
    assert (tensor.dtype, tuple(tensor.shape)) == (dtype, tuple(shape)), f"expected {dtype} {shape}"
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def stored_dtype(source: Source) -> torch.dtype:
    """The most common floating dtype of the checkpoint's tensors, which added tensors take."""
    codes = [info.dtype for info in source.tensors.values() if info.dtype in FLOAT_DTYPES]
    if not codes:
        raise V2WError(f"read the weights of {source.folder}", "no tensor of a floating dtype")
    return FLOAT_DTYPES[max(set(codes), key=codes.count)]
