"""The Python API: what `import v2w_convert` offers, and models converted without the command line."""

import ast
import copy
import inspect
import pydoc
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import v2w_convert as v2w
from tests.conftest import ACTIONS, tiny_unet
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.read import shipped_plans

PLAN = shipped_plans()["stable-video-diffusion"]
ROOT = Path(__file__).parents[1]
FUNCTIONS = (
    "inspect draft_plan convert convert_module load verify open_dataset record describe_data budget finetune rollout play evaluate export "
    "export_web read_plan assert_causal assert_streams"
).split()
OVERVIEW = (
    "inspect draft_plan convert verify record budget finetune rollout play evaluate export export_web convert_module load open_dataset "
    "describe_data "
    "read_plan assert_causal assert_streams"
).split()
CLASSES = (
    "V2WError World ExpertsWorld Stream Sampling Plan Episode Dataset DataDescription DataSettings DescribeSettings "
    "ProgressEvent ConvertSettings VerifySettings "
    "FinetuneSettings RolloutSettings EvaluateSettings ExportSettings InspectResult PlanResult ConvertResult "
    "VerifyReport Budget FinetuneResult RolloutResult EvaluateResult ExportResult RecordSettings RecordResult PlaySettings PlayResult "
    "WebSettings WebExportResult"
).split()


def test_what_is_exported() -> None:
    assert sorted(v2w.__all__) == sorted([*FUNCTIONS, *CLASSES, "Progress"])
    assert set(v2w.__all__) <= set(dir(v2w))
    for name in FUNCTIONS:
        function = getattr(v2w, name)
        assert inspect.isfunction(function)
        assert inspect.getdoc(function), name
    for name in CLASSES:
        assert inspect.isclass(getattr(v2w, name))
        assert inspect.getdoc(getattr(v2w, name)), name
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        v2w.nothing_of_that_name  # noqa: B018
    assert (ROOT / "v2w_convert" / "py.typed").is_file()


def test_type_checkers_see_the_names_that_are_imported_at_run_time() -> None:
    tree = ast.parse(Path(inspect.getfile(v2w)).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == v2w._HOME
    assert sorted(seen) == sorted(v2w.__all__)


def test_every_function_of_the_api_is_annotated_and_says_what_it_takes() -> None:
    from v2w_convert import api

    for name, function in inspect.getmembers(api, inspect.isfunction):
        if function.__module__ != api.__name__ or name.startswith("_"):
            continue
        signature, text = inspect.signature(function), inspect.getdoc(function) or ""
        assert signature.return_annotation is not signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not parameter.empty
            assert f"    {parameter.name}: " in text, (name, parameter.name)
        for section in ("Args:", "Returns:", "Raises:"):
            assert section in text, name


def test_import_is_light_and_help_lists_the_api() -> None:
    code = "import sys, v2w_convert; assert not {'torch', 'diffusers', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    shown = pydoc.plain(pydoc.render_doc(v2w))
    assert "convert(base:" in shown
    for name in FUNCTIONS:
        assert f"    {name}(" in shown, name
    for name in CLASSES:
        assert f"    class {name}(" in shown, name


def test_the_overview_has_the_signatures() -> None:
    listed = re.findall(r"^    (\w+)\(([^()\n]*)\) -> ([\w |]+)$", v2w.__doc__ or "", re.MULTILINE)
    assert [name for name, _, _ in listed] == [
        n for n in OVERVIEW if n not in ("assert_causal", "assert_streams")
    ]
    for name, arguments, returned in listed:
        signature = inspect.signature(getattr(v2w, name))
        assert arguments.replace("*, ", "").split(", ") == list(signature.parameters), name
        keyword_only = arguments.partition("*, ")[2].split(", ") if "*, " in arguments else []
        assert keyword_only == [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert str(getattr(signature.return_annotation, "__name__", signature.return_annotation)) == returned


@torch.no_grad()
def test_a_live_module_equals_a_converted_folder(tiny_base: Path, tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    result = v2w.convert(tiny_base, tmp_path / "out", v2w.ConvertSettings(action_dim=ACTIONS, seed=3))
    assert result.ok and not result.already_converted
    loaded = v2w.load(tmp_path / "out")
    scheduler = DDIMScheduler.from_pretrained(tiny_base / "scheduler")
    for given in (scheduler, {**scheduler.config}):
        world = v2w.convert_module(tiny_unet().half(), action_dim=ACTIONS, seed=3, scheduler=given)
        assert world.resolved.plan == loaded.resolved.plan
        expected, found = loaded.state_dict(), world.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert dict(world.named_buffers()).keys() == dict(loaded.named_buffers()).keys()
    stream = world.float().stream(1, 8, 8)
    stream.observe(torch.zeros(1, 1, world.channels, 8, 8))
    assert stream.step(torch.zeros(1, ACTIONS)).shape == (1, world.channels, 8, 8)


def test_a_live_module_with_a_plan_of_ones_own(tmp_path: Path) -> None:
    plan = adjust_plan(v2w.read_plan(PLAN), window=4)
    assert v2w.convert_module(tiny_unet(), plan, action_dim=2).resolved.window == 4
    assert v2w.convert_module(tiny_unet(), PLAN, action_dim=2).action_dim == 2
    line = '  - frame_norm:       {at: "**.temporal_res_block.norm[12]"}\n'
    text = PLAN.read_text()
    assert line in text
    (tmp_path / "plan.yaml").write_text(text.replace(line, ""))
    model = tiny_unet()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(v2w.V2WError, match="frames mix in"):
        v2w.convert_module(model, tmp_path / "plan.yaml", action_dim=2)
    assert before.keys() == model.state_dict().keys()
    with pytest.raises(v2w.V2WError, match="no shipped plan"):
        v2w.convert_module(torch.nn.Linear(2, 2), action_dim=2)


def test_inspect_plan_and_a_dry_run(tiny_base: Path, tmp_path: Path) -> None:
    found = v2w.inspect(tiny_base)
    assert found.ok
    assert (found.plan, found.latent_channels, found.dtype) == ("stable-video-diffusion", 4, "float16")
    assert found.sites and not found.uncovered
    plan = v2w.draft_plan(tiny_base)
    assert plan.text == PLAN.read_text()
    assert plan.output is None and not plan.drafted
    settings = v2w.ConvertSettings(action_dim=3, dry_run=True)
    result = v2w.convert(tiny_base, tmp_path / "out", settings)
    assert result.dry_run and result.files and result.changes
    assert result.bytes_needed is not None and result.bytes_needed > sum(f.bytes for f in result.files)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_way_in_ten_lines(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    v2w.convert(tiny_base, tmp_path / "world", v2w.ConvertSettings(action_dim=ACTIONS))
    report = v2w.verify(tmp_path / "world", tiny_base)
    assert report.ok
    settings = v2w.RolloutSettings(frames=4, steps=2, device="cpu")
    result = v2w.rollout(tmp_path / "world", tiny_data, tmp_path / "rollout.gif", settings)
    assert result.frames == 4
    assert (tmp_path / "rollout.gif").stat().st_size > 500
    assert v2w.open_dataset(tiny_data).action_dim == ACTIONS
    for saved in ("world/config.yaml", "rollout.gif.config.yaml"):
        assert (tmp_path / saved).is_file()


def test_what_is_not_a_folder_is_refused(tmp_path: Path, tiny_converted: Path) -> None:
    missing = tmp_path / "missing"
    for call in (
        lambda: v2w.load(missing),
        lambda: v2w.verify(missing),
        lambda: v2w.verify(tiny_converted, missing),
        lambda: v2w.open_dataset(missing),
        lambda: v2w.finetune(missing, missing, tmp_path / "run"),
        lambda: v2w.rollout(tiny_converted, missing, tmp_path / "out.gif"),
        lambda: v2w.evaluate(tiny_converted, missing),
        lambda: v2w.export(missing, tmp_path / "step.onnx"),
    ):
        with pytest.raises(v2w.V2WError, match="no such folder"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_example_of_ten_lines(tmp_path: Path) -> None:
    """`examples/api.py`, on the Doom base."""
    example = ROOT / "examples" / "api.py"
    code = [line for line in example.read_text().splitlines() if line and not line.startswith('"""')]
    assert len(code) <= 10
    done = subprocess.run(
        [sys.executable, example, tmp_path / "out"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "every claim holds: True" in done.stdout
    assert (tmp_path / "out" / "rollout.gif").stat().st_size > 1000
    shutil.rmtree(tmp_path / "out")
