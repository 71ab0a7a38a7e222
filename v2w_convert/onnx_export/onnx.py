"""A converted model's streamed step as an ONNX file, which is kept only if it rolls out as torch does."""

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from v2w_convert.console import quiet_libraries
from v2w_convert.errors import V2WError, one_line
from v2w_convert.onnx_export.conditions import ConditionInput, condition_inputs
from v2w_convert.onnx_export.result import Comparison, ExportResult
from v2w_convert.onnx_export.runner import METADATA, OnnxStream
from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.onnx_export.step import StreamStep
from v2w_convert.onnx_export.target import files_of, move_into_place, require_packages, require_target
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.sites import State
from v2w_convert.surgery.conditions import picture_frames
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.utf8_path import utf8_path
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

    Inputs and outputs are those of `StreamStep`, all of fixed shape. Where the model was finetuned with conditions
    that are each episode's own (its picture, its prompt), these are inputs. All others are the model's null
    conditions, stored in the graph. The file's metadata has what a user of the graph needs under "v2w", as JSON;
    `onnx_export.runner` shows its use. The comparison is a rollout with random actions and conditions, by torch and
    by onnxruntime, both on the CPU and each with its own frames fed back.

    Args:
        converted: A converted or finetuned model's folder.
        output: A new .onnx file.
        settings: The settings; None for the defaults.
        progress: Called before each part of the work.

    Returns:
        The result. It is not `ok` if onnxruntime differs from torch; `output` is not written then, unless the
        settings say so.

    Raises:
        V2WError: `output` exists or is not called .onnx, a package is missing, sizes do not fit the model or are
            missing, what the model gives is not finite, torch cannot export it, or onnxruntime cannot run the graph.
    """
    settings = settings or ExportSettings()
    report = progress or no_progress
    require_target(output)
    require_packages()
    h, w, window = resolve_sizes(converted, settings)
    open_converted(converted)[2].noise.build().check_sampling(settings.steps)
    size = settings.batch, h, w
    report(ProgressEvent("export", detail="loading"))
    world = experts_of(load(converted, dtype=torch.float32))[""]
    start_stream(
        world, *size, sampling=Sampling(steps=1), window=window
    ).step()  # V2WError, if it is not finite
    state = world.empty_state(*size, window)
    step = StreamStep(world, state, own_conditions(converted, world, size)).eval()
    compared = Comparison(True, 0, None, None)
    try:
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.partial-") as folder:
            file = Path(folder) / output.name
            report(ProgressEvent("export", detail="writing the graph"))
            try:
                write(step, state, size, window, file)
            except torch.onnx.OnnxExporterError as error:
                raise V2WError(f"export {converted}", one_line(error), advice(step.conditions)) from error
            if settings.check:
                report(ProgressEvent("export", detail=f"comparing {settings.frames} frames with torch"))
                compared = compare(
                    world, file, size, window, settings.frames, settings.steps, step.conditions
                )
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


def own_conditions(converted: Path, world: World, size: tuple[int, int, int]) -> dict[str, ConditionInput]:
    """The inputs for the conditions that the model was finetuned with and that are each episode's own.

    Args:
        converted: The model's folder.
        world: The model.
        size: (b, h, w) of the latents.

    Raises:
        V2WError: The manifest names a condition that the model does not have.
    """
    manifest, _, resolved = open_converted(converted)
    own = (manifest.finetuning or {}).get("conditions") or {}
    if unknown := own.keys() - resolved.call.conditions.keys():
        raise V2WError(f"export {converted}", f"the model has no condition {', '.join(sorted(unknown))}")
    return condition_inputs(world, own, size, picture_frames(manifest, resolved))


def advice(conditions: Mapping[str, ConditionInput]) -> str:
    """What to try where a graph with these inputs cannot be written or run: a graph in which they are constants."""
    return "a run with --text-condition stored --image-condition stored" if conditions else ""


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
        *(wanted.draw(torch.Generator().manual_seed(0)) for wanted in step.conditions.values()),
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
        "conditions": "null conditions, stored in the graph, but for those in condition_inputs",
        "condition_inputs": {
            name: {"name": f"condition.{name}", **wanted.model_dump(mode="json")}
            for name, wanted in step.conditions.items()
        },
        "feedback": step.feedback,
    }
    program.model.metadata_props[METADATA] = json.dumps(description, allow_nan=False)
    save(program, file)


def save(program: torch.onnx.ONNXProgram, file: Path) -> None:
    """Save a graph without what the exporter notes at every node: lines of source, with paths of this machine."""
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(file)


def compare(
    world: World,
    file: Path,
    size: tuple[int, int, int],
    window: int,
    frames: int,
    steps: int,
    conditions: Mapping[str, ConditionInput] | None = None,
) -> Comparison:
    """Roll out by torch and by onnxruntime, from the same noise, actions and conditions.

    Args:
        world: The world model.
        file: Its exported step.
        size: (b, h, w) of the latents.
        window: Latent frames that attention sees.
        frames: Latent frames to generate, rounded up to whole blocks.
        steps: Denoising steps per block.
        conditions: Those that are inputs of the step, by name.

    Raises:
        V2WError: onnxruntime cannot run the graph.
    """
    b, h, w = size
    sampling = Sampling(steps=steps, guidance=CHECK_GUIDANCE)
    session = open_session(file, advice(conditions or {}))
    generator = torch.Generator().manual_seed(1)
    own: dict[str, Any] = {name: wanted.draw(generator) for name, wanted in (conditions or {}).items()}
    theirs = OnnxStream(session, sampling, conditions={name: value.numpy() for name, value in own.items()})
    ours = start_stream(world, b, h, w, sampling=sampling, window=window, **own)
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


def open_session(file: Path, try_: str) -> Any:
    """An onnxruntime.InferenceSession on a graph, on the CPU with as many threads as torch has.

    Raises:
        V2WError: onnxruntime cannot run the graph; `try_` is the advice.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        with utf8_path(file) as path:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no class in common
        raise V2WError("run the graph by onnxruntime", one_line(error), try_) from error


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
