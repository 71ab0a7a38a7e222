"""A converted model's streamed step as an ONNX file, which is kept only if it rolls out as torch does."""

import json
import math
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from v2w_convert.console import quiet_libraries
from v2w_convert.errors import V2WError
from v2w_convert.onnx_export.result import Comparison, ExportResult
from v2w_convert.onnx_export.runner import METADATA, OnnxStream
from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.onnx_export.step import StreamStep
from v2w_convert.onnx_export.target import files_of, move_into_place, require_packages, require_target
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.sites import State
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.world.experts import experts_of
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling, start_stream

MAX_DIFFERENCE = 1e-4  # absolute, on latents: rollouts feed float32's rounding back into themselves
CHECK_GUIDANCE = 1.5  # with any but 1 the branch without action is run, too
NOISE_LEVEL_UNITS = {
    "ddpm": "training timestep; 0 is clean",
    "edm": "sigma, for data of standard deviation 1; 0 is clean",
    "flow": "share of noise, 0 (clean) to 1",
}


def export(
    converted: Path,
    output: Path,
    settings: ExportSettings | None = None,
    *,
    progress: Progress | None = None,
) -> ExportResult:
    """Write the streamed step of a converted model, in float32 whatever the stored dtype.

    Inputs and outputs are those of `StreamStep`, all of fixed shape. Conditions are the model's null
    conditions, stored in the graph. The file's metadata has what a user of the graph needs under "v2w", as
    JSON; `onnx_export.runner` shows its use. The comparison is a rollout with random actions, by torch and by
    onnxruntime, both on the CPU and each with its own frames fed back.

    Args:
        converted: A converted or finetuned model's folder.
        output: A new .onnx file.
        settings: The settings; None for the defaults.
        progress: Called before each part of the work.

    Returns:
        The result. It is not `ok` if onnxruntime differs from torch; `output` is not written then, unless the
        settings say so.

    Raises:
        V2WError: `output` exists or is not called .onnx, a package is missing, or sizes do not fit the model
            or are missing.
    """
    settings = settings or ExportSettings()
    report = progress or no_progress
    require_target(output)
    require_packages()
    require_stored_conditions(converted)
    h, w, window = resolve_sizes(converted, settings)
    size = settings.batch, h, w
    report(ProgressEvent("export", detail="loading"))
    world = experts_of(load(converted, dtype=torch.float32))[""]
    state = world.empty_state(*size, window)
    step = StreamStep(world, state).eval()
    compared = Comparison(True, 0, None, None)
    try:
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.partial-") as folder:
            file = Path(folder) / output.name
            report(ProgressEvent("export", detail="writing the graph"))
            write(step, state, size, window, file)
            if settings.check:
                report(ProgressEvent("export", detail=f"comparing {settings.frames} frames with torch"))
                compared = compare(world, file, size, window, settings.frames, settings.steps)
            written_bytes = sum(part.stat().st_size for part in files_of(file))
            if compared.ok or settings.keep:
                move_into_place(file, output)
    except OSError as error:
        raise V2WError(
            f"write {output}", str(error), "a folder that can be written, on a disk with space left"
        ) from error
    return ExportResult(
        ok=compared.ok,
        output=str(output),
        written=compared.ok or settings.keep,
        frames=compared.frames,
        largest_difference=compared.largest_difference,
        allowed=MAX_DIFFERENCE,
        largest_value=compared.largest_value,
        window=window,
        bytes=written_bytes,
        inputs=step.inputs,
        state_bytes=sum(tensor.nbytes for kept in state.sites.values() for tensor in kept.values()),
        settings={**settings.model_dump(mode="json"), "height": h, "width": w, "window": window},
    )


def require_stored_conditions(converted: Path) -> None:
    """Check that the model was not finetuned with conditions that differ from episode to episode.

    Raises:
        V2WError: It was: a graph holds the stored ones.
    """
    own = (read_manifest(converted).finetuning or {}).get("conditions") or {}
    if own:
        said = ", ".join(f"{name} (of the {source})" for name, source in own.items())
        raise V2WError(
            f"export {converted}",
            f"it was finetuned with each episode's own {said}, and a graph holds one for all",
            "a run with --text-condition stored --image-condition stored",
        )


def write(step: StreamStep, state: State, size: tuple[int, int, int], window: int, file: Path) -> None:
    """Write the graph of `step`. Over 2 GB, its weights go to a .data file beside it.

    Args:
        step: The step.
        state: The stream state that it was made for.
        size: (b, h, w) of the latents.
        window: Latent frames that attention sees, for the metadata.
        file: The file to write.
    """
    b, h, w = size
    world = step.world
    n = world.frames_per_block
    example = (
        torch.zeros(b, n, world.channels, h, w),
        torch.ones(b, n),
        torch.zeros(b, n, world.action_dim),
        torch.zeros(b, n, dtype=torch.bool),
        state.cursor,
        *(state.sites[site][key] for site, key in step.kept),
    )
    with quiet_libraries():  # torch recommends other packages; whether the graph is right, `compare` measures
        program = torch.onnx.export(
            step, example, dynamo=True, input_names=step.inputs, output_names=step.outputs, verbose=False
        )
    assert program is not None
    description = {
        "version": version("v2w-convert"),
        "noise": world.resolved.noise.model_dump(mode="json"),
        "noise_level": NOISE_LEVEL_UNITS[world.resolved.noise.kind],
        "action_dim": world.action_dim,
        "channels": world.channels,
        "window": window,
        "tokens": world.clip_tokens(h, w, window),
        "frames_per_block": n,
        "conditions": "null conditions, stored in the graph",
        "feedback": step.feedback,
    }
    program.model.metadata_props[METADATA] = json.dumps(description)
    program.save(file)


def compare(
    world: World, file: Path, size: tuple[int, int, int], window: int, frames: int, steps: int
) -> Comparison:
    """Roll out by torch and by onnxruntime, from the same noise and actions.

    Args:
        world: The world model.
        file: Its exported step.
        size: (b, h, w) of the latents.
        window: Latent frames that attention sees.
        frames: Latent frames to generate, rounded up to whole blocks.
        steps: Denoising steps per block.
    """
    import onnxruntime

    b, h, w = size
    sampling = Sampling(steps=steps, guidance=CHECK_GUIDANCE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    theirs = OnnxStream(session, sampling)
    ours = start_stream(world, b, h, w, sampling=sampling, window=window)
    generator = torch.Generator().manual_seed(1)
    pairs: list[tuple[Tensor, Tensor]] = []
    n = world.frames_per_block
    shape = (b, world.action_dim) if n == 1 else (b, n, world.action_dim)
    blocks = -(-frames // n)
    for _ in range(blocks):
        action = torch.randn(shape, generator=generator)
        pairs.append((torch.from_numpy(theirs.step(action.numpy())), ours.step(action)))
    difference = max(max_abs_diff(found, expected) for found, expected in pairs)
    return Comparison(
        ok=difference <= MAX_DIFFERENCE,
        frames=blocks * n,
        largest_difference=_finite(difference),
        largest_value=_finite(max(float(expected.abs().max()) for _, expected in pairs)),
    )


def resolve_sizes(converted: Path, settings: ExportSettings) -> tuple[int, int, int]:
    """Return height and width of the latents and the window, from the model where the settings do not say.

    Raises:
        V2WError: Neither says, or the window is not the plan's.
    """
    asked = f"export {converted}"
    _, source, resolved = open_converted(converted)
    if source.low_noise is not None:
        raise V2WError(
            asked, "it has two denoisers; a graph holds a step of one", "v2w_convert.load, in Python"
        )
    h, w, window = settings.height, settings.width, settings.window
    if window is not None and resolved.window not in (None, window):
        raise V2WError(asked, f"a window of {window}, but the plan has {resolved.window}", "no --window")
    side = resolved.config.get("sample_size")
    if isinstance(side, int):
        h, w = h or side, w or side
    window = window or resolved.window
    if h is None or w is None or window is None:
        found = {"height": h, "width": w, "window": window}
        missing = [name for name, value in found.items() if value is None]
        advice = " ".join(f"--{name} N" for name in missing)
        raise V2WError(asked, f"neither the model nor the settings say {', '.join(missing)}", advice)
    return h, w, window


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None
