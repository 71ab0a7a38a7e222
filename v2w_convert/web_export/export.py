"""A world as a folder of static files, which is kept only if its frames equal torch's."""

import gzip
import json
import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_convert.checkpoint.output import check_target, staging_folder
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.starts import open_starts
from v2w_convert.errors import V2WError, one_line
from v2w_convert.escape import printable
from v2w_convert.evaluation.rollout_frames import history_length, rollout_frames
from v2w_convert.onnx_export.onnx import own_conditions, resolve_sizes, write
from v2w_convert.onnx_export.step import StreamStep
from v2w_convert.onnx_export.target import require_packages
from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.web_export import starts as beginnings
from v2w_convert.web_export.decoder import require_single, write_decoder
from v2w_convert.web_export.halves import halve
from v2w_convert.web_export.player import Array, Player
from v2w_convert.web_export.result import WebExportResult
from v2w_convert.web_export.runtime import WASM, WEBGPU, read_runtime
from v2w_convert.web_export.sampling import history_table, step_tables
from v2w_convert.web_export.settings import WebSettings
from v2w_convert.world.experts import experts_of
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.vae import VAE, open_vae

FORMAT = 1  # of world.json
MAX_DIFFERENCE = 1e-3  # absolute, of pixels from 0 to 1: a quarter of what 8 bits can show
ALIGNED = 8  # bytes: where a tensor of starts.bin begins
PAGE = ("index.html", "style.css", "page.js", "worker.js", "decode.js", "stream.js", "noise.js", "files.js")


class Differs(Exception):
    """The folder's frames are not torch's."""


@dataclass
class _Made:
    """What was exported, and what it is compared with."""

    world: World
    vae: VAE
    starts: list[int]
    tensors: list[dict[str, Array]]
    controls: list[dict[str, Any]]
    sampling: Sampling


def export_web(
    converted: Path,
    folder: Path,
    data: Path | None,
    runtime: Path | None,
    settings: WebSettings | None = None,
    *,
    progress: Progress | None = None,
) -> WebExportResult:
    """Write a page on which a visitor plays a world in their own browser.

    The step, the decoder and onnxruntime's WebAssembly are compressed by gzip. `world.json` says how frames are sampled;
    `Player` does in Python what the page does. The comparison is a rollout from the first start with random actions.

    Args:
        converted: A converted or finetuned model's folder, with its autoencoder.
        folder: A new folder.
        data: Episodes to start from, read as the model's manifest says; best those that were held out. None: those whose
            first frames are kept with the model.
        runtime: onnxruntime-web's npm package, packed or unpacked.
        settings: The settings; None for the defaults.
        progress: Called before each part of the work.

    Returns:
        The result. It is not `ok` if frames differ from torch's; `folder` is not written then, unless the settings say so.

    Raises:
        V2WError: `folder` is not empty, a package or file is missing, or the model has something that a page has not:
            several frames to a block, an autoencoder of several frames, a solver that remembers steps, two denoisers.
    """
    settings = settings or WebSettings()
    report = progress or no_progress
    asked = f"export {converted} as a page"
    check_target(folder, converted, f"write {folder}")
    _refuse_sizes(asked, settings)
    require_packages()
    provided = read_runtime(runtime, settings.webgpu)
    manifest, source, resolved = open_converted(converted)
    if resolved.frames_per_block > 1:
        found = f"it generates blocks of {resolved.frames_per_block} frames; a page shows one frame at a time"
        raise V2WError(asked, found, "v2w export RUN -o FILE")
    if source.low_noise is not None:
        raise V2WError(asked, "it has two denoisers; a page holds one", "v2w_convert.load, in Python")
    noise = resolved.noise.build()
    noise.check_sampling(settings.steps, settings.context_noise)
    report(ProgressEvent("export", detail="reading"))
    vae = open_vae(converted)
    require_single(vae)
    named = "--data DATA, whose first frames are started from"
    data_set = open_starts(converted, data, DataSettings(), manifest.view, asked, named)
    history = history_length(1, vae.packing, settings.history)
    controls = beginnings.controls(data_set, manifest.action_dim, vae)
    numbers = beginnings.chosen(data_set, history, settings.starts)
    begun = [beginnings.encoded(data_set, number, history, vae) for number in numbers]
    h, w = begun[0][0]["latents"].shape[-2:]
    _, _, window = resolve_sizes(converted, settings.model_copy(update={"height": h, "width": w}))
    level = noise.history_level if settings.context_noise is None else settings.context_noise
    report(ProgressEvent("export", detail="loading"))
    world = experts_of(load(converted, dtype=torch.float32))[""]
    tables = step_tables(noise, settings.steps, world.clip_tokens(h, w, window))
    state = world.empty_state(1, h, w, window)
    step = StreamStep(world, state, own_conditions(converted, world, (1, h, w))).eval()
    tensors = [
        given | beginnings.own_conditions(converted, vae, step.conditions, episode)
        for given, episode in begun
    ]
    if any(given["latents"].shape != tensors[0]["latents"].shape for given in tensors):
        raise V2WError(asked, "its episodes have frames of several sizes", "episodes of one size")
    sampling = Sampling(settings.steps, settings.guidance, level)
    made = _Made(world, vae, numbers, tensors, controls, sampling)
    height, width = begun[0][1].frames.shape[1:3]
    placed, starts = _place(tensors, numbers)
    described = {
        "v2w_web": FORMAT,
        "title": printable(converted.resolve().name),
        "fps": float(data_set.fps),
        "height": height,
        "width": width,
        "latent": [world.channels, h, w],
        "action_dim": world.action_dim,
        "controls": controls,
        "first_steps": settings.steps,
        "steps": tables,
        "guidance": settings.guidance,
        "history": history_table(noise, level),
        "feedback": step.feedback,
        "state": {"cursor": {"dtype": "int64", "shape": []}}
        | {
            f"state.{site}.{key}": {"dtype": "float32", "shape": list(state.sites[site][key].shape)}
            for site, key in step.kept
        },
        "starts": starts,
        "engines": {"wasm": list(WASM), **({"webgpu": list(WEBGPU)} if settings.webgpu else {})},
    }
    difference, sizes = None, {}
    try:
        with staging_folder(folder, converted) as stage:
            report(ProgressEvent("export", detail="writing the graphs"))
            try:
                write(step, state, (1, h, w), window, stage / "step.onnx")
                write_decoder(vae, (world.channels, h, w), stage / "decode.onnx")
            except torch.onnx.OnnxExporterError as error:
                raise V2WError(asked, one_line(error)) from error
            if (stage / "step.onnx.data").exists():
                raise V2WError(asked, "its weights are over 2 GB", "a smaller model")
            for name in ("step.onnx", "decode.onnx"):
                halve(stage / name)
                _compress(stage / f"{name}.gz", (stage / name).read_bytes())
                (stage / name).unlink()
            (stage / "starts.bin").write_bytes(placed)
            text = json.dumps(described, allow_nan=False, separators=(",", ":"))
            (stage / "world.json").write_text(text, encoding="utf-8")
            for name, content in provided.items():
                if name.endswith(".wasm"):
                    _compress(stage / f"{name}.gz", content)
                else:
                    (stage / name).write_bytes(content)
            with as_file(files("v2w_convert.web_export") / "page") as page:
                for name in PAGE:
                    shutil.copyfile(page / name, stage / name)
            if settings.check:
                report(ProgressEvent("export", detail=f"comparing {settings.frames} frames with torch"))
                difference = compare(made, stage, settings.frames)
            sizes = {file.name: file.stat().st_size for file in sorted(stage.iterdir())}
            ok = difference is None or difference <= MAX_DIFFERENCE
            if not ok and not settings.keep:
                raise Differs
    except Differs:
        pass
    return WebExportResult(
        ok=ok,
        output=str(folder),
        written=ok or settings.keep,
        frames=settings.frames if settings.check else 0,
        largest_difference=difference,
        allowed=MAX_DIFFERENCE,
        window=window,
        starts=numbers,
        bytes=sum(sizes.values()),
        files=sizes,
        settings={**settings.model_dump(mode="json"), "history": history, "context_noise": level},
    )


def compare(made: _Made, folder: Path, frames: int) -> float:
    """The largest difference of pixels in `frames` frames by torch and by the folder's graphs: same noise, same actions."""
    start = made.tensors[0]
    observed = len(start["latents"])
    generator = torch.Generator().manual_seed(1)
    low, high = (
        torch.tensor([each.get(name, other) for each in made.controls])
        for name, other in (("low", 0.0), ("high", 1.0))
    )
    taken = low + (high - low) * torch.rand(frames, len(low), generator=generator)
    actions = torch.cat([torch.from_numpy(start["actions"]), taken])
    conditions = {
        name.removeprefix("condition."): torch.from_numpy(value)
        for name, value in start.items()
        if name.startswith("condition.")
    }
    latents = torch.from_numpy(start["latents"])[None]
    pieces = rollout_frames(
        made.world, made.vae, latents, actions[None], observed, made.sampling, 0, conditions
    )
    expected = torch.cat(list(pieces), 1)[0].numpy()
    drawn = torch.Generator().manual_seed(0)
    player = Player(folder, lambda count: torch.randn(count, generator=drawn).numpy())
    found = [player.picture(player.step(action, made.sampling.steps)) for action in taken.numpy()]
    return float(np.abs(np.stack(found) - expected).max())


def _refuse_sizes(asked: str, settings: WebSettings) -> None:
    """Raise V2WError if a size is asked for that a page does not have."""
    given = {"--batch": settings.batch != 1, "--height": settings.height, "--width": settings.width}
    if refused := [flag for flag, value in given.items() if value]:
        raise V2WError(
            asked,
            f"{', '.join(refused)}: a page has one rollout, in the size of the data's frames",
            "without",
        )


def _place(tensors: list[dict[str, Array]], numbers: list[int]) -> tuple[bytes, list[dict[str, Any]]]:
    """All starts' tensors one after another, little-endian, and where each lies."""
    placed, starts = bytearray(), []
    for number, given in zip(numbers, tensors, strict=True):
        entry: dict[str, Any] = {}
        for name, value in given.items():
            placed += bytes(-len(placed) % ALIGNED)
            entry[name] = {"dtype": str(value.dtype), "shape": list(value.shape), "offset": len(placed)}
            placed += np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
        starts.append({"label": f"Episode {number}", "tensors": entry})
    return bytes(placed), starts


def _compress(file: Path, content: bytes) -> None:
    """Write `content` by gzip; the same bytes every time."""
    file.write_bytes(gzip.compress(content, 9, mtime=0))
