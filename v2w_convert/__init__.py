"""Convert pretrained video diffusion models into causal, action-conditioned world models.

    import v2w_convert as v2w

    v2w.convert("base", "converted", v2w.ConvertSettings(action_dim=3))
    assert v2w.verify("converted", "base").ok
    world = v2w.load("converted")

Functions, one for each `v2w` command:

    inspect(base, *, plan, variant, ema) -> InspectResult
        What a base is, and what a plan would change.
    draft_plan(base, output, *, progress) -> PlanResult
        The plan for a base: the shipped one, or a draft.
    convert(base, output, settings, *, progress) -> ConvertResult
        A base becomes a converted folder.
    verify(converted, base, settings, *, report, card, progress) -> VerifyReport
        Measure every claim about a converted folder.
    record(env, output, settings, *, progress) -> RecordResult
        Record episodes of a Gymnasium environment as a data set.
    budget(converted, data, settings, *, processes) -> Budget
        What finetuning would take in memory and on disk.
    finetune(converted, data, output, settings, *, progress) -> FinetuneResult
        Train a converted folder on episodes with actions.
    rollout(world_folder, data, output, settings, *, progress) -> RolloutResult
        Generate a video beside the recorded one.
    play(world_folder, data, settings, *, progress, ready) -> None
        Serve a page in which visitors step into the model.
    evaluate(world_folder, data, settings, *, output, progress) -> EvaluateResult
        Measure quality by horizon, action following and stability.
    export(converted, output, settings, *, progress) -> ExportResult
        Write one streamed denoising step as an ONNX graph.
    export_web(converted, folder, data, runtime, settings, *, progress) -> WebExportResult
        Write a page on which a visitor plays the world in their own browser.

On models and data in memory:

    convert_module(model, plan, *, action_dim, seed, scheduler) -> World
        A live diffusers module becomes a world model.
    load(folder, *, device, dtype) -> World | ExpertsWorld
        Load a converted folder; an ExpertsWorld has two denoisers, each for a range of noise levels.
    open_dataset(path, settings) -> Dataset
        Open recorded episodes, of whatever format.
    describe_data(path, settings, *, sheet, progress) -> DataDescription
        What is in them, and what is wrong with them.
    read_plan(file) -> Plan
        Read a plan file.
    assert_causal, assert_streams
        Checks for any module with a frame axis.

A `World` is a `torch.nn.Module`, and `World.stream` starts a rollout, a `Stream`. Settings are what the commands'
flags are generated from; a result's fields are what `--json` prints. A mistake of the caller raises `V2WError`.

`import v2w_convert` imports neither torch nor diffusers; they are imported when a name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2w_convert.api import (
        budget,
        convert,
        convert_module,
        describe_data,
        draft_plan,
        evaluate,
        export,
        export_web,
        finetune,
        inspect,
        load,
        open_dataset,
        play,
        record,
        rollout,
        verify,
    )
    from v2w_convert.data.dataset import Dataset
    from v2w_convert.data.describe import DataDescription
    from v2w_convert.data.describe_settings import DescribeSettings
    from v2w_convert.data.episode import Episode
    from v2w_convert.data.settings import DataSettings
    from v2w_convert.draft.result import PlanResult
    from v2w_convert.errors import V2WError
    from v2w_convert.evaluation.result import EvaluateResult, RolloutResult
    from v2w_convert.evaluation.settings import EvaluateSettings, RolloutSettings
    from v2w_convert.finetuning.budget import Budget
    from v2w_convert.finetuning.result import FinetuneResult
    from v2w_convert.finetuning.settings import FinetuneSettings
    from v2w_convert.onnx_export.result import ExportResult
    from v2w_convert.onnx_export.settings import ExportSettings
    from v2w_convert.plan.grammar import Plan
    from v2w_convert.plan.read import read_plan
    from v2w_convert.playing.result import PlayResult
    from v2w_convert.playing.settings import PlaySettings
    from v2w_convert.progress import Progress, ProgressEvent
    from v2w_convert.recording.result import RecordResult
    from v2w_convert.recording.settings import RecordSettings
    from v2w_convert.surgery.result import ConvertResult, InspectResult
    from v2w_convert.surgery.settings import ConvertSettings
    from v2w_convert.verification.module import assert_causal, assert_streams
    from v2w_convert.verification.result import VerifyReport
    from v2w_convert.verification.settings import VerifySettings
    from v2w_convert.web_export.result import WebExportResult
    from v2w_convert.web_export.settings import WebSettings
    from v2w_convert.world.experts import ExpertsWorld
    from v2w_convert.world.model import World
    from v2w_convert.world.rollout import Sampling, Stream

# Where each name is defined; a test checks that this and the imports above agree.
_MODULES = {
    "v2w_convert.api": (
        "inspect",
        "draft_plan",
        "convert",
        "verify",
        "record",
        "budget",
        "finetune",
        "rollout",
        "play",
        "evaluate",
        "export",
        "export_web",
        "convert_module",
        "load",
        "open_dataset",
        "describe_data",
    ),
    "v2w_convert.data.dataset": ("Dataset",),
    "v2w_convert.data.describe": ("DataDescription",),
    "v2w_convert.data.describe_settings": ("DescribeSettings",),
    "v2w_convert.data.episode": ("Episode",),
    "v2w_convert.data.settings": ("DataSettings",),
    "v2w_convert.draft.result": ("PlanResult",),
    "v2w_convert.errors": ("V2WError",),
    "v2w_convert.evaluation.result": ("EvaluateResult", "RolloutResult"),
    "v2w_convert.evaluation.settings": ("EvaluateSettings", "RolloutSettings"),
    "v2w_convert.finetuning.budget": ("Budget",),
    "v2w_convert.finetuning.result": ("FinetuneResult",),
    "v2w_convert.finetuning.settings": ("FinetuneSettings",),
    "v2w_convert.onnx_export.result": ("ExportResult",),
    "v2w_convert.onnx_export.settings": ("ExportSettings",),
    "v2w_convert.plan.grammar": ("Plan",),
    "v2w_convert.plan.read": ("read_plan",),
    "v2w_convert.playing.result": ("PlayResult",),
    "v2w_convert.playing.settings": ("PlaySettings",),
    "v2w_convert.progress": ("Progress", "ProgressEvent"),
    "v2w_convert.recording.result": ("RecordResult",),
    "v2w_convert.recording.settings": ("RecordSettings",),
    "v2w_convert.surgery.result": ("ConvertResult", "InspectResult"),
    "v2w_convert.surgery.settings": ("ConvertSettings",),
    "v2w_convert.verification.module": ("assert_causal", "assert_streams"),
    "v2w_convert.verification.result": ("VerifyReport",),
    "v2w_convert.verification.settings": ("VerifySettings",),
    "v2w_convert.web_export.result": ("WebExportResult",),
    "v2w_convert.web_export.settings": ("WebSettings",),
    "v2w_convert.world.experts": ("ExpertsWorld",),
    "v2w_convert.world.model": ("World",),
    "v2w_convert.world.rollout": ("Sampling", "Stream"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Budget",
    "ConvertResult",
    "ConvertSettings",
    "DataDescription",
    "DataSettings",
    "Dataset",
    "DescribeSettings",
    "Episode",
    "EvaluateResult",
    "EvaluateSettings",
    "ExpertsWorld",
    "ExportResult",
    "ExportSettings",
    "FinetuneResult",
    "FinetuneSettings",
    "InspectResult",
    "Plan",
    "PlanResult",
    "PlayResult",
    "PlaySettings",
    "Progress",
    "ProgressEvent",
    "RecordResult",
    "RecordSettings",
    "RolloutResult",
    "RolloutSettings",
    "Sampling",
    "Stream",
    "V2WError",
    "VerifyReport",
    "VerifySettings",
    "WebExportResult",
    "WebSettings",
    "World",
    "assert_causal",
    "assert_streams",
    "budget",
    "convert",
    "convert_module",
    "describe_data",
    "draft_plan",
    "evaluate",
    "export",
    "export_web",
    "finetune",
    "inspect",
    "load",
    "open_dataset",
    "play",
    "read_plan",
    "record",
    "rollout",
    "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'v2w_convert' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
