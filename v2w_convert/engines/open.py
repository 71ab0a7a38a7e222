"""A converted folder, opened with the engine that is asked for."""

from pathlib import Path
from typing import Any, Literal

import torch

from v2w_convert.console import quiet_libraries
from v2w_convert.engines.onnx_world import ADVICE, OnnxWorld
from v2w_convert.errors import V2WError, one_line
from v2w_convert.onnx_export.target import require_packages
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.world.model import World
from v2w_convert.world.rollout import StreamingModel


def open_engine(
    folder: Path,
    engine: Literal["torch", "compile", "onnx"],
    device: torch.device,
    dtype: torch.dtype,
    cache: Path | None = None,
) -> StreamingModel:
    """The world model in `folder`, its passes computed by an engine.

    Args:
        folder: A converted or finetuned model's folder.
        engine: `torch`: eager. `compile`: `World.compile`. `onnx`: `OnnxWorld`.
        device: Where to compute.
        dtype: Of the denoiser.
        cache: Where `onnx` keeps its graphs; None: in the user's cache folder.

    Raises:
        V2WError: The folder cannot be loaded, or the engine cannot compute it here; all faults are named.
    """
    if engine == "onnx":
        _require_onnx(folder, device, dtype)
    if engine == "compile":
        _require_compiler(folder, device)
    world = load(folder, device=device, dtype=dtype)
    if engine == "onnx":
        assert isinstance(world, World)
        return OnnxWorld(world, cache)
    if engine == "compile":
        world.compile()
    return world


def _require_onnx(folder: Path, device: torch.device, dtype: torch.dtype) -> None:
    asked = f"compute {folder} by onnxruntime"
    require_packages(asked)
    faults, advice = [], ADVICE
    if device.type != "cpu" or dtype != torch.float32:
        faults.append(
            f"it is computed in float32 on the CPU, not in {str(dtype).removeprefix('torch.')} on {device}"
        )
        advice = "--device cpu --dtype float32"
    if open_converted(folder).source.low_noise is not None:
        faults.append("the model has two denoisers; a graph holds a step of one")
        advice = ADVICE
    if faults:
        raise V2WError(asked, faults, advice)


def _require_compiler(folder: Path, device: torch.device) -> None:
    """Compile something small: whether a compiler is there shows before anything is loaded."""
    config: Any = torch.compiler.config
    try:
        with quiet_libraries(), config.patch(force_disable_caches=True):  # what lies there proves nothing
            torch.compile(torch.neg)(torch.zeros(8, device=device))
    except Exception as error:  # of Dynamo, of inductor, of the compiler's process
        raise V2WError(f"compute {folder} by torch.compile", one_line(error), ADVICE) from error
