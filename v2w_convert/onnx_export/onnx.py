"""A converted model's streamed step as an ONNX file, put in place once it rolls out as torch does."""

import json
import math
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from v2w_convert.console import quiet_libraries
from v2w_convert.errors import V2WError
from v2w_convert.onnx_export.runner import METADATA, OnnxStream
from v2w_convert.onnx_export.step import StreamStep
from v2w_convert.onnx_export.target import parts, put, require_packages, require_target
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.sites import State
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling, start_stream

ALLOWED = 1e-4  # absolute, on latents: rollouts feed float32's rounding back into themselves
GUIDANCE = 1.5  # of the check: any but 1 runs the branch without action, too
UNITS = {
    "ddpm": "training timestep; 0 is clean",
    "edm": "sigma beside data of deviation 1; 0 is clean",
    "flow": "share of noise, 0 (clean) to 1",
}


def export(
    converted: Path,
    output: Path,
    *,
    b: int = 1,
    h: int | None = None,
    w: int | None = None,
    window: int | None = None,
    check: bool = True,
    keep: bool = False,
    frames: int = 32,
    steps: int = 4,
) -> dict[str, Any]:
    """Write the streamed step of the model in `converted` to `output`, float32 whatever the stored dtype.

    b, h, w        rollouts side by side, and the latents' size; default: 1 and the base's sample_size
    window         frames in view, the present one included, where the plan has no window
    check          roll out `frames` frames of `steps` denoising steps with random actions, by torch and by
                   onnxruntime, both on the CPU and each feeding on its own frames. Choose more frames than
                   the window has: only then is every slot of the state written twice
    keep           put the file in place even if the check fails

    Inputs and outputs are those of `StreamStep`, all of fixed shape; conditions are the model's nulls, baked
    in. The file's metadata has what a consumer needs under "v2w", as JSON; `export.runner` shows its use.

    Returns ok (true where nothing was checked), frames, largest_difference and allowed (absolute, on latents;
    None and 0 frames where nothing was checked), largest_value (of a latent in torch's rollout), window,
    bytes (of the file and, over 2 GB, of the .data beside it), inputs (names), state_bytes.
    Raises V2WError if `output` is there or no .onnx, if a package is missing, or if a number does not fit.
    """
    require_target(output)
    require_packages()
    _require_positive(b=b, h=h, w=w, window=window, frames=frames, steps=steps)
    h, w, window = _sizes(converted, h, w, window)
    world = load(converted, dtype=torch.float32)
    state = world.empty_state(b, h, w, window)
    step = StreamStep(world, state).eval()
    try:
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.partial-") as folder:
            file = Path(folder) / output.name
            write(step, state, (b, h, w), window, file)
            report: dict[str, Any] = {"ok": True, "frames": 0, "largest_difference": None, "allowed": ALLOWED}
            if check:
                report |= compare(world, file, (b, h, w), window, frames, steps)
            tensors = [tensor for kept in state.sites.values() for tensor in kept.values()]
            report |= {
                "window": window,
                "bytes": sum(part.stat().st_size for part in parts(file)),
                "inputs": step.inputs,
                "state_bytes": sum(tensor.nbytes for tensor in tensors),
            }
            if report["ok"] or keep:
                put(file, output)
    except OSError as error:
        raise V2WError(
            f"write {output}", str(error), "a folder that can be written, on a disk with room"
        ) from error
    return report


def write(step: StreamStep, state: State, size: tuple[int, int, int], window: int, file: Path) -> None:
    """Export `step` for streams of `size` (b h w) that begin with `state`. Over 2 GB, weights go to FILE.data."""
    b, h, w = size
    world = step.world
    kept = [state.sites[site][key] for site, key in step.kept]
    example = (
        torch.zeros(b, world.frames_per_block, world.channels, h, w),
        torch.ones(b, world.frames_per_block),
        torch.zeros(b, world.frames_per_block, world.action_dim),
        torch.zeros(b, world.frames_per_block, dtype=torch.bool),
        state.cursor,
        *kept,
    )
    with (
        quiet_libraries()
    ):  # of packages that it could serve as well; whether it did well, the check measures
        program = torch.onnx.export(
            step, example, dynamo=True, input_names=step.inputs, output_names=step.outputs, verbose=False
        )
    assert program is not None
    facts = {
        "version": version("v2w-convert"),
        "noise": world.resolved.noise.model_dump(mode="json"),
        "noise_level": UNITS[world.resolved.noise.kind],
        "action_dim": world.action_dim,
        "channels": world.channels,
        "window": window,
        "frames_per_block": world.frames_per_block,
        "conditions": "null, baked in",
        "feedback": step.feedback,
    }
    program.model.metadata_props[METADATA] = json.dumps(facts)
    program.save(file)


def compare(
    world: World, file: Path, size: tuple[int, int, int], window: int, frames: int, steps: int
) -> dict[str, Any]:
    """Roll out by torch and by onnxruntime from the same noise and actions; how far their latents are apart."""
    import onnxruntime

    b, h, w = size
    sampling = Sampling(steps=steps, guidance=GUIDANCE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    theirs = OnnxStream(session, sampling)
    ours = start_stream(world, b, h, w, sampling=sampling, window=window)
    generator = torch.Generator().manual_seed(1)
    pairs: list[tuple[Tensor, Tensor]] = []
    one = (
        (b, world.action_dim)
        if world.frames_per_block == 1
        else (b, world.frames_per_block, world.action_dim)
    )
    blocks = -(-frames // world.frames_per_block)
    for _ in range(blocks):
        action = torch.randn(one, generator=generator)
        pairs.append((torch.from_numpy(theirs.step(action.numpy())), ours.step(action)))
    difference = max(max_abs_diff(found, expected) for found, expected in pairs)
    return {
        "ok": difference <= ALLOWED,
        "frames": blocks * world.frames_per_block,
        "largest_difference": _finite(difference),
        "largest_value": _finite(max(float(expected.abs().max()) for _, expected in pairs)),
    }


def _require_positive(**numbers: int | None) -> None:
    if faults := [f"{name} is {value}" for name, value in numbers.items() if value is not None and value < 1]:
        raise V2WError("export a step", faults, "numbers from 1")


def _sizes(converted: Path, h: int | None, w: int | None, window: int | None) -> tuple[int, int, int]:
    """h, w and the window, from the folder's files where they are not given."""
    asked = f"export {converted}"
    _, _, resolved = open_converted(converted)
    if window is not None and resolved.window not in (None, window):
        raise V2WError(asked, f"a window of {window}, where the plan has {resolved.window}", "no window")
    side = resolved.config.get("sample_size")
    if isinstance(side, int):
        h, w = h or side, w or side
    window = window or resolved.window
    if h is None or w is None or window is None:
        missing = [name for name, value in {"h": h, "w": w, "window": window}.items() if value is None]
        found = f"neither the model nor the call says {', '.join(missing)}"
        raise V2WError(asked, found, ", ".join(f"{name}=N" for name in missing))
    return h, w, window


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other word for it
