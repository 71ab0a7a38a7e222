"""The Python API: what each `v2w` command calls, and the same on models in memory.

`v2w_convert` exports everything here. Importing this module is cheap: torch and diffusers are imported by the
function that needs them.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_convert.config_file import CONFIG, save_settings
from v2w_convert.data.describe_settings import DescribeSettings
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.settings import EvaluateSettings, RolloutSettings
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.new_file import write_text
from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.recording.settings import RecordSettings
from v2w_convert.surgery.settings import ConvertSettings, InspectSettings
from v2w_convert.to_json import result_json
from v2w_convert.verification.settings import VerifySettings
from v2w_convert.web_export.settings import WebSettings

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel
    from torch import nn

    from v2w_convert.data.dataset import Dataset
    from v2w_convert.data.describe import DataDescription
    from v2w_convert.draft.result import PlanResult
    from v2w_convert.evaluation.result import EvaluateResult, RolloutResult
    from v2w_convert.finetuning.budget import Budget
    from v2w_convert.finetuning.result import FinetuneResult
    from v2w_convert.onnx_export.result import ExportResult
    from v2w_convert.plan.grammar import Plan
    from v2w_convert.playing.result import PlayResult
    from v2w_convert.recording.result import RecordResult
    from v2w_convert.surgery.result import ConvertResult, InspectResult
    from v2w_convert.verification.result import VerifyReport
    from v2w_convert.web_export.result import WebExportResult
    from v2w_convert.world.experts import ExpertsWorld
    from v2w_convert.world.model import World

Folder = str | Path


def inspect(
    base: Folder, *, plan: Folder | None = None, variant: str | None = None, ema: bool | None = None
) -> "InspectResult":
    """Describe a base: its class and sizes, the plan that fits, and every module that the plan changes.

    No weights are read.

    Args:
        base: A diffusers folder, a file or folder as its makers publish it, or a Hub id (OWNER/NAME).
        plan: A plan file to try; None: the shipped plan that fits.
        variant: Which variant of the weights to read, such as "fp16"; None: the plain ones, if they are there.
        ema: Where there are both, whether to read the average of the weights over training.

    Returns:
        The description. Its `ok` is False if the plan forgets a module through which frames mix.

    Raises:
        V2WError: The base cannot be read, no plan fits it, or the plan has faults.
    """
    from v2w_convert.checkpoint.hub import resolve_hub_id
    from v2w_convert.surgery.inspect import inspect as inspect_base

    settings = InspectSettings(plan=None if plan is None else Path(plan), variant=variant, ema=ema)
    return inspect_base(resolve_hub_id(Path(base), variant), settings)


def draft_plan(
    base: Folder, output: Folder | None = None, *, progress: Progress | None = None
) -> "PlanResult":
    """Find the shipped plan that fits a base, or draft one by measuring a small model of its class.

    Args:
        base: A diffusers folder, a file or folder as its makers publish it, or a Hub id (OWNER/NAME).
        output: A YAML file to write, which must not exist; None: write nothing.
        progress: Called as the work advances.

    Returns:
        The plan as text, and for a draft what was measured and what is open.

    Raises:
        V2WError: The file exists, the base cannot be read, or its class cannot be converted.
    """
    from v2w_convert.checkpoint.hub import resolve_hub_id
    from v2w_convert.draft.plan import write_plan

    return write_plan(
        resolve_hub_id(Path(base)), None if output is None else Path(output), progress or no_progress
    )


def convert(
    base: Folder, output: Folder, settings: ConvertSettings, *, progress: Progress | None = None
) -> "ConvertResult":
    """Convert a base into a new folder that holds a world model.

    Converting again with the same settings leaves the folder as it is, and continues a conversion that was
    killed. Nothing is written until everything has been checked.

    Args:
        base: A diffusers folder, a file or folder as its makers publish it, or a Hub id (OWNER/NAME).
        output: The folder to write: new, or empty.
        settings: How to convert; `ConvertSettings(action_dim=…)` or `ConvertSettings(data=…)` is enough.
        progress: Called as the work advances.

    Returns:
        What was done. Its `ok` is False if `settings.verify` was set and a claim fails.

    Raises:
        V2WError: The base, the plan or the folder does not fit, or the disk fails.
    """
    from v2w_convert.checkpoint.hub import resolve_hub_id
    from v2w_convert.surgery.perform import convert_checkpoint

    base, output, progress = (
        resolve_hub_id(Path(base), settings.variant),
        Path(output),
        progress or no_progress,
    )
    _require_pushable(settings.push_to_hub)
    result = convert_checkpoint(base, output, settings, progress)
    if not (settings.dry_run or result.already_converted or (output / CONFIG).exists()):
        _save(result.settings or settings, output, "convert BASE -o OUT")
    if settings.verify:
        report = verify(output, base, card=True, progress=progress)
        result = replace(result, verify=report.as_json())
    if result.ok:
        _push(output, settings.push_to_hub, progress)
    return result


def convert_module(
    model: "nn.Module",
    plan: "Plan | Folder | None" = None,
    *,
    action_dim: int,
    seed: int = 0,
    scheduler: Any = None,
) -> "World":
    """Turn a diffusers model that is in memory into a world model. The model is changed in place.

    Equals `convert` followed by `load`, bit for bit at the stored dtype.

    Args:
        model: A denoiser, such as a `WanTransformer3DModel`; it becomes `World.base`.
        plan: A plan, or a plan file; None: the shipped plan that fits the model's class and config.
        action_dim: Numbers in one action, times the video frames that make one latent frame.
        seed: Seed of the added weights.
        scheduler: The pipeline's scheduler or its config; None: the noise is as the plan says.

    Returns:
        The world model, on the model's device and in its dtype, with null conditions.

    Raises:
        V2WError: No plan fits the model, or the plan forgets a module through which frames mix.
    """
    from v2w_convert.plan.read import read_plan
    from v2w_convert.surgery.module import convert_module as convert_live

    if isinstance(plan, str | Path):
        plan = read_plan(Path(plan))
    return convert_live(model, plan, action_dim=action_dim, seed=seed, scheduler=scheduler)


def load(
    folder: Folder, *, device: "str | torch.device" = "cpu", dtype: "torch.dtype | None" = None
) -> "World | ExpertsWorld":
    """Load the world model in a converted folder or a run folder.

    Args:
        folder: What `convert` or `finetune` wrote.
        device: Where the model goes.
        dtype: Its dtype; None: as stored.

    Returns:
        The world model in eval mode, its parameters without gradients: an `ExpertsWorld` where the folder has two
        denoisers, each for a range of noise levels.

    Raises:
        V2WError: The folder is not a converted model, or its tensors are not those that its plan makes.
    """
    from v2w_convert.surgery.load import load as load_world

    return load_world(folder, device=device, dtype=dtype)


def verify(
    converted: Folder,
    base: Folder | None = None,
    settings: VerifySettings = VerifySettings(),  # noqa: B008 (frozen)
    *,
    report: Folder | None = None,
    card: bool = False,
    progress: Progress | None = None,
) -> "VerifyReport":
    """Measure every claim about a converted or finetuned model on its own weights.

    Args:
        converted: What `convert` or `finetune` wrote.
        base: What it was converted from. Without it, claims that compare with the base are not measured.
        settings: What may be used, and what is measured on.
        report: A folder, created if needed, for a page, pictures, report.json and a summary.
        card: Whether to put the summary into the folder's model card, README.md.
        progress: Called as the work advances.

    Returns:
        All claims. Its `ok` is False if one fails, or if `settings.budget` left no time for one of the core: `exit_code` is
        1 or 3 then.

    Raises:
        V2WError: A folder cannot be read as what it should be.
    """
    converted = _folder(converted)
    if base is not None and not Path(base).is_file():
        base = _folder(base)
    from v2w_convert.surgery.card import read_card, write_card
    from v2w_convert.surgery.manifest import read_manifest
    from v2w_convert.verification.report.summary import summary
    from v2w_convert.verification.run import verify as measure

    if card:  # a card that cannot be read is refused now, not when everything is done
        read_card(converted, read_manifest(converted))
    progress = progress or no_progress
    result = measure(
        converted,
        None if base is None else Path(base),
        settings,
        report=None if report is None else Path(report),
        progress=progress,
        say=lambda line: progress(ProgressEvent("note", detail=line)),
    )
    if report is not None:
        _save(settings, Path(report), "verify CONVERTED -o REPORT")
    if card:
        write_card(converted, read_card(converted, read_manifest(converted)), summary(result.as_json()))
    return result


def open_dataset(path: Folder, settings: DataSettings | None = None) -> "Dataset":
    """Open a data set of recorded episodes, of whatever format it is.

    Args:
        path: The data set's folder, file or Hub id (OWNER/NAME).
        settings: How to read it; None: as it is.

    Returns:
        The data set: lengths, actions, episodes, fingerprint.

    Raises:
        V2WError: The folder is not a data set of a format that is known, or has no use for a setting.
    """
    path = _data(path)
    from v2w_convert.data.open import open_dataset as open_path

    return open_path(path, settings)


def record(
    env: str,
    output: Folder,
    settings: RecordSettings = RecordSettings(),  # noqa: B008 (frozen)
    *,
    progress: Progress | None = None,
) -> "RecordResult":
    """Record episodes of a Gymnasium environment as a data set.

    The environment and the policy are code, which is run. A recording that is stopped leaves nothing behind.

    Args:
        env: An environment's id; MODULE:ID imports a module that registers it.
        output: The data set's folder: new, or empty.
        settings: Who acts, how long, and what is seen.
        progress: Called after each episode.

    Returns:
        What was recorded.

    Raises:
        V2WError: A package is missing, the environment or the policy fails or does not fit, or something is at `output`.
    """
    from v2w_convert.recording.record import record as record_env

    result = record_env(env, Path(output), settings, progress or no_progress)
    _save(settings, Path(output), "record ENV -o DATA")
    return result


def budget(
    converted: Folder,
    data: Folder,
    settings: FinetuneSettings = FinetuneSettings(),  # noqa: B008 (frozen)
    *,
    processes: int = 1,
) -> "Budget":
    """Tell what `finetune` with these settings would take in memory and on disk. Nothing is trained.

    A step is run on tensors that have shapes and no values, and what it holds is counted.

    Args:
        converted: What `convert` wrote.
        data: A data set.
        settings: How to train.
        processes: How many processes share the work; the figures are of one.

    Returns:
        Bytes, and what to change if the device has less.

    Raises:
        V2WError: The data does not fit the model, a package is missing that the settings need, or so many processes cannot
            share the work.
    """
    from v2w_convert.finetuning.plan_memory import plan_memory

    return plan_memory(_folder(converted), _data(data), settings, processes)


def describe_data(
    path: Folder,
    settings: DescribeSettings = DescribeSettings(),  # noqa: B008 (frozen)
    *,
    sheet: Folder | None = None,
    progress: Progress | None = None,
) -> "DataDescription":
    """Describe a data set as the other functions would read it: counts, sizes, rates, ranges of actions, faults.

    Args:
        path: The data set.
        settings: How to read it, and how many of its frames to decode.
        sheet: A new .png file: frames of the first episodes, their actions drawn below them. None: none is written.
        progress: Called after each episode that is decoded.

    Returns:
        The description. Its `ok` is False if a fault was found.

    Raises:
        V2WError: The data set cannot be opened, or the file exists.
    """
    from v2w_convert.data.describe import describe

    return describe(Path(path), settings, None if sheet is None else Path(sheet), progress or no_progress)


def finetune(
    converted: Folder,
    data: Folder,
    output: Folder,
    settings: FinetuneSettings = FinetuneSettings(),  # noqa: B008 (frozen)
    *,
    progress: Progress | None = None,
) -> "FinetuneResult":
    """Train a converted model on episodes with actions, by diffusion forcing.

    Args:
        converted: What `convert` wrote.
        data: A data set.
        output: The run folder: new, empty, or an unfinished run of the same settings, which is continued.
        settings: How to train.
        progress: Called as the work advances.

    Returns:
        What was trained, and the losses.

    Raises:
        V2WError: The data does not fit the model, the folder holds another run, or the loss is not finite.
    """
    converted, data, output = _folder(converted), _data(data), Path(output)
    if settings.validation is not None:
        _data(settings.validation)
    from v2w_convert.finetuning.finetune import finetune as train

    _require_pushable(settings.push_to_hub)
    result = train(converted, data, output, settings, progress=progress)
    _push(output, settings.push_to_hub, progress or no_progress)
    return result


def rollout(
    world_folder: Folder,
    data: Folder,
    output: Folder,
    settings: RolloutSettings = RolloutSettings(),  # noqa: B008 (frozen)
    *,
    progress: Progress | None = None,
) -> "RolloutResult":
    """Generate a video from the start of an episode and its actions, beside the recorded one.

    To step a model by hand, use `load` and `World.stream`.

    Args:
        world_folder: What `convert` or `finetune` wrote.
        data: A data set.
        output: A new .mp4, .gif or .png file.
        settings: Which episode, how long, and how to sample.
        progress: Called as the work advances.

    Returns:
        What the file shows.

    Raises:
        V2WError: The data does not fit the model, or the file exists.
    """
    world_folder, data, output = _folder(world_folder), _data(data), Path(output)
    from v2w_convert.evaluation.rollout_video import rollout as generate

    result = generate(world_folder, data, output, settings, progress=progress)
    _save_beside(settings, output, "rollout RUN --data DATA -o FILE")
    return result


def play(
    world_folder: Folder,
    data: Folder | None = None,
    settings: PlaySettings = PlaySettings(),  # noqa: B008 (frozen)
    *,
    progress: Progress | None = None,
    ready: "Callable[[PlayResult], None] | None" = None,
) -> None:
    """Serve a page in which visitors step into a model, until the process is interrupted.

    Args:
        world_folder: What `convert` or `finetune` wrote.
        data: A data set whose episodes a visit can begin from; None: those whose first frames are kept with the model.
        settings: Where to listen, who may come, and how to sample at first.
        progress: Called as the work advances.
        ready: Called when the page can be opened.

    Returns:
        Never but by an exception, KeyboardInterrupt as a rule.

    Raises:
        V2WError: A package is missing, the port is taken, or model and data do not fit together.
    """
    world_folder = _folder(world_folder)
    data = None if data is None else _data(data)
    from v2w_convert.playing.play import play as serve

    serve(world_folder, data, settings, progress or no_progress, ready or (lambda result: None))


def evaluate(
    world_folder: Folder,
    data: Folder,
    settings: EvaluateSettings = EvaluateSettings(),  # noqa: B008 (frozen)
    *,
    output: Folder | None = None,
    progress: Progress | None = None,
) -> "EvaluateResult":
    """Measure a world model on recorded episodes: picture quality by horizon, action following, stability.

    Args:
        world_folder: What `finetune` wrote.
        data: A data set that it was not trained on.
        settings: What to measure, and how to sample.
        output: A new folder for a page, videos and the figures; if it ends in .json, a new file for the figures alone;
            None: nothing is written.
        progress: Called as the work advances.

    Returns:
        The figures, with bootstrap intervals over episodes.

    Raises:
        V2WError: The data does not fit the model, a network is not what it should be, or the output exists.
    """
    world_folder, data = _folder(world_folder), _data(data)
    if settings.classifier_data is not None:
        _data(settings.classifier_data)
    target = None if output is None else Path(output)
    alone = target is None or target.suffix == ".json"
    if alone and settings.save_frames:
        found = "no folder to put them into" if target is None else f"{target} is one file"
        raise V2WError("save frames", found, "-o FOLDER")
    if target is not None and os.path.lexists(target):
        raise V2WError(f"write figures to {target}", "the file exists", "another name")
    from v2w_convert.evaluation.evaluate import evaluate as measure
    from v2w_convert.processes import start_processes

    command = "evaluate RUN --data DATA -o OUTPUT"
    processes = start_processes(settings.device)
    if target is None or alone:
        result = measure(world_folder, data, settings, processes=processes, progress=progress)
        if target is not None and processes.first:
            write_text(target, result_json(result, indent=1) + "\n")
            _save_beside(settings, target, command)
        return result
    from v2w_convert.evaluation.report.folder import report_folder

    with report_folder(target, processes) as report:
        result = measure(world_folder, data, settings, report=report, processes=processes, progress=progress)
        if processes.first:
            _save(settings, report.folder, command)
    return result


def export(
    converted: Folder,
    output: Folder,
    settings: ExportSettings = ExportSettings(),  # noqa: B008 (frozen)
    *,
    progress: Progress | None = None,
) -> "ExportResult":
    """Write one streamed denoising step as an ONNX graph, and compare it with torch.

    Args:
        converted: What `convert` or `finetune` wrote.
        output: A new .onnx file.
        settings: Sizes, and how to compare.
        progress: Called as the work advances.

    Returns:
        What was written and how far it differs. Its `ok` is False if it differs by more than is allowed.

    Raises:
        V2WError: The file exists, a package is missing, or a size does not fit.
    """
    from v2w_convert.onnx_export.target import require_packages, require_target

    converted, output = _folder(converted), Path(output)
    require_target(output)
    require_packages()
    from v2w_convert.onnx_export.onnx import export as write

    result = write(converted, output, settings, progress=progress)
    if result.written:
        _save_beside(settings, output, "export RUN -o FILE")
    return result


def export_web(
    converted: Folder,
    folder: Folder,
    data: Folder | None,
    runtime: Folder | None,
    settings: WebSettings = WebSettings(),  # noqa: B008 (frozen)
    *,
    progress: Progress | None = None,
) -> "WebExportResult":
    """Write a page on which a visitor plays a world in their own browser, and compare its frames with torch's.

    Args:
        converted: What `finetune` or `convert` wrote, with its autoencoder.
        folder: A new folder, which any web server can serve.
        data: Episodes to start from; None: those whose first frames are kept with the model.
        runtime: npm's package onnxruntime-web of the version that is served, packed or unpacked.
        settings: What the page begins with, and how to compare.
        progress: Called as the work advances.

    Returns:
        What was written and how far it differs. Its `ok` is False if it differs by more than is allowed.

    Raises:
        V2WError: The folder is not empty, a package is missing, or the model has something that a page has not.
    """
    from v2w_convert.onnx_export.target import require_packages

    converted = _folder(converted)
    require_packages()
    from v2w_convert.web_export.export import export_web as write

    package = None if runtime is None else Path(runtime)
    result = write(
        converted, Path(folder), None if data is None else _data(data), package, settings, progress=progress
    )
    if result.written:
        said = "The settings of `v2w export RUN --web DIR`; `--config` reads them."
        save_settings(settings, Path(folder) / CONFIG, said)
    return result


def _folder(path: Folder) -> Path:
    """`path` if it is a folder; else V2WError, before anything heavy is imported."""
    path = Path(path)
    if not path.is_dir():
        raise V2WError(f"read {path}", "no such folder", "check the path")
    return path


def _require_pushable(repository: str | None) -> None:
    if repository is not None:
        from v2w_convert.checkpoint.publish import require_pushable

        require_pushable(repository)


def _push(folder: Path, repository: str | None, progress: Progress) -> None:
    """Upload a finished folder, if that was asked for."""
    if repository is not None:
        from v2w_convert.checkpoint.publish import push

        address = push(folder, repository)
        progress(ProgressEvent("note", detail=f"{folder}: uploaded to {address}"))


def _data(path: Folder) -> Path:
    """`path` if a data set may be there, in a folder or a file, or on the Hub; else V2WError."""
    path = Path(path)
    from v2w_convert.hub import REPOSITORY

    if not path.exists() and not REPOSITORY.fullmatch(str(path)):
        raise V2WError(f"read {path}", "no such folder or file", "check the path")
    return path


def _save(settings: "BaseModel", folder: Path, command: str) -> None:
    """Save the settings in the folder that they made."""
    save_settings(settings, folder / CONFIG, f"The settings of `v2w {command}`; `--config` reads them.")


def _save_beside(settings: "BaseModel", file: Path, command: str) -> None:
    """Save the settings beside the file that they made."""
    beside = file.with_name(f"{file.name}.{CONFIG}")
    save_settings(settings, beside, f"The settings of `v2w {command}`; `--config` reads them.")
