"""An exported step rolls out as torch does, and a file that does not is not put in place."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from v2w_convert.errors import V2WError
from v2w_convert.onnx_export import onnx as exporting
from v2w_convert.onnx_export import target
from v2w_convert.onnx_export.result import ExportResult
from v2w_convert.onnx_export.runner import METADATA, OnnxStream
from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.onnx_export.step import StreamStep
from v2w_convert.surgery.load import load
from v2w_convert.verification.engine.reference_rollout import ReferenceRollout
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

B, H, W = 2, 4, 8
WINDOW, PERIOD, ACTIONS = 5, 32, 3  # of the tiny model
FRAMES = PERIOD + 2


@pytest.fixture(scope="module")
def model(tiny_converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as training might leave it: actions have an effect. Stored as fp16."""
    folder = tmp_path_factory.mktemp("models") / "randomized"
    shutil.copytree(tiny_converted, folder)
    file = folder / "unet" / "v2w_added.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: tensor if tensor.any() else (0.2 * torch.randn(tensor.shape, generator=generator)).to(tensor)
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportResult]:
    file = tmp_path_factory.mktemp("exported") / "step.onnx"
    return file, exporting.export(model, file, settings(frames=FRAMES, steps=2))


@pytest.fixture(scope="module")
def world(model: Path) -> World:
    return load(model, dtype=torch.float32)


@pytest.fixture
def session(exported: tuple[Path, ExportResult]) -> onnxruntime.InferenceSession:
    return open_session(exported[0])


@pytest.fixture
def already(exported: tuple[Path, ExportResult], monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's work is done: only what surrounds it is tested."""
    monkeypatch.setattr(
        exporting, "write", lambda step, state, size, window, file: shutil.copy(exported[0], file)
    )


def settings(**changes: Any) -> ExportSettings:
    """For the sizes of these tests."""
    return ExportSettings(batch=B, height=H, width=W, **changes)


def open_session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).numpy()


def given(
    stream: OnnxStream, actions: np.ndarray | None = None, dropped: bool = False
) -> dict[str, np.ndarray]:
    """Inputs for one frame after what `stream` has seen."""
    return {
        "latents": draw(B, 1, 4, H, W, seed=5),
        "noise_level": np.full((B, 1), 300, np.float32),
        "actions": draw(B, 1, ACTIONS, seed=6) if actions is None else actions,
        "dropped": np.full((B, 1), dropped),
        **stream.state,
    }


def begun(session: onnxruntime.InferenceSession, frames: int = 3) -> OnnxStream:
    stream = OnnxStream(session)
    stream.observe(draw(B, frames, 4, H, W), draw(B, frames, ACTIONS, seed=1))
    return stream


def test_rollout_equals_torchs_past_window_and_period(exported: tuple[Path, ExportResult]) -> None:
    file, report = exported
    assert report.ok and report.frames == FRAMES and report.window == WINDOW
    assert report.largest_difference is not None and 0 < report.largest_difference <= report.allowed == 1e-4
    assert report.largest_value is not None and report.largest_value > 0.1
    assert report.bytes == file.stat().st_size
    assert [*file.parent.iterdir()] == [file]
    json.dumps(asdict(report), allow_nan=False)


def test_observed_frames_and_unknown_actions_as_without_a_stream(
    world: World, session: onnxruntime.InferenceSession
) -> None:
    sampling = Sampling(steps=2, guidance=2.0, context_noise=50.0)
    ours = ReferenceRollout(world, B, H, W, sampling=sampling, seed=3)
    theirs = OnnxStream(session, sampling, seed=3)
    for frames in (1, WINDOW + 1):
        latents, actions = draw(B, frames, 4, H, W), draw(B, frames, ACTIONS, seed=frames)
        ours.observe(torch.from_numpy(latents), torch.from_numpy(actions))
        theirs.observe(latents, actions)
        for action in (None, draw(B, ACTIONS)):
            expected = ours.step(None if action is None else torch.from_numpy(action)).numpy()
            assert np.abs(theirs.step(action) - expected).max() <= 1e-4


def test_history_guidance_is_refused(session: onnxruntime.InferenceSession) -> None:
    with pytest.raises(V2WError, match="history guidance takes a second state"):
        OnnxStream(session, Sampling(history_guidance=2.0))


def forgetful(part: str) -> type[OnnxStream]:
    """A stream that does not feed back the first state whose name ends in `part`."""

    class Forgetful(OnnxStream):
        def _run(self, *args: Any) -> dict[str, np.ndarray]:
            name = next(name for name in self.feedback if name.endswith(part))
            self.state[name] = np.zeros_like(self.state[name])
            return super()._run(*args)

    return Forgetful


@pytest.mark.parametrize("part", ["", "cursor", "conv1.inputs", "attn1.keys", "attn1.values"])
def test_a_state_that_is_not_fed_back_fails_the_check(
    part: str, world: World, exported: tuple[Path, ExportResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "OnnxStream", forgetful(part) if part else OnnxStream)
    report = exporting.compare(world, exported[0], (B, H, W), WINDOW, frames=3, steps=1)
    assert report.ok == (not part)


def test_a_file_that_fails_the_check_is_not_put_in_place(
    already: None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "OnnxStream", forgetful("attn1.keys"))
    report = exporting.export(model, tmp_path / "step.onnx", settings(frames=3, steps=1))
    assert not report.ok and not report.written
    assert not [*tmp_path.iterdir()]
    report = exporting.export(model, tmp_path / "step.onnx", settings(frames=3, steps=1, keep=True))
    assert not report.ok and report.written
    assert [file.name for file in tmp_path.iterdir()] == ["step.onnx"]


def test_a_difference_is_not_magnified_by_the_frames_that_follow(
    world: World, exported: tuple[Path, ExportResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(OnnxStream):
        def predict(self, actions: np.ndarray | None = None) -> np.ndarray:
            return super().predict(actions) + np.float32(0.5)

    monkeypatch.setattr(exporting, "OnnxStream", Off)
    report = exporting.compare(world, exported[0], (B, H, W), WINDOW, frames=4, steps=1)
    assert report.largest_difference == pytest.approx(0.5, abs=1e-4)


def test_what_is_not_finite_fails_the_check(
    world: World, exported: tuple[Path, ExportResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(OnnxStream):
        def predict(self, actions: np.ndarray | None = None) -> np.ndarray:
            return super().predict(actions) * np.float32("nan")

    monkeypatch.setattr(exporting, "OnnxStream", Blind)
    report = exporting.compare(world, exported[0], (B, H, W), WINDOW, frames=1, steps=1)
    assert not report.ok and report.largest_difference is None
    json.dumps(asdict(report), allow_nan=False)


def test_every_state_is_read_and_renewed(session: onnxruntime.InferenceSession) -> None:
    stream = begun(session)
    inputs = given(stream)
    names = [output.name for output in session.get_outputs()]
    before = dict(zip(names, session.run(names, inputs), strict=True))
    for name, output in stream.feedback.items():
        (changed,) = session.run(["output"], inputs | {name: np.zeros_like(inputs[name])})
        assert (changed != before["output"]).any(), name
        assert before[output].shape == inputs[name].shape and before[output].dtype == inputs[name].dtype
        assert (before[output] != inputs[name]).any(), name


def test_names_tell_the_wiring(world: World, exported: tuple[Path, ExportResult]) -> None:
    file, report = exported
    session = open_session(file)
    facts = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    state = world.empty_state(B, H, W)
    step = StreamStep(world, state)
    kept = [f"{site}.{key}" for site, tensors in state.sites.items() for key in tensors]
    assert [value.name for value in session.get_inputs()] == report.inputs == step.inputs
    assert report.inputs == ["latents", "noise_level", "actions", "dropped", "cursor"] + [
        f"state.{name}" for name in kept
    ]
    assert [value.name for value in session.get_outputs()] == ["output", "next.cursor"] + [
        f"next.{name}" for name in kept
    ]
    assert facts["feedback"] == step.feedback
    assert {key: facts[key] for key in ("action_dim", "channels", "window")} == {
        "action_dim": ACTIONS,
        "channels": 4,
        "window": WINDOW,
    }
    assert facts["noise"]["kind"] == "ddpm" and facts["noise"]["prediction"] == "v"
    state_inputs = [value for value in session.get_inputs() if value.name.startswith("state.")]
    assert report.state_bytes == 4 * sum(int(np.prod(value.shape)) for value in state_inputs)


def test_float32_whatever_is_stored(exported: tuple[Path, ExportResult]) -> None:
    kinds = {weight.data_type for weight in onnx.load(exported[0]).graph.initializer}
    assert onnx.TensorProto.FLOAT in kinds
    assert not kinds & {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}


def test_the_step_is_pure(world: World, session: onnxruntime.InferenceSession) -> None:
    inputs = given(begun(session))
    once, again = session.run(None, inputs), session.run(None, inputs)
    assert all((a == b).all() for a, b in zip(once, again, strict=True))

    step = StreamStep(world, world.empty_state(B, H, W))
    tensors = [torch.from_numpy(inputs[name]) for name in step.inputs]
    copies = [tensor.clone() for tensor in tensors]
    first, second = step(*tensors), step(*tensors)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


def test_actions_count_after_the_first_frame_unless_dropped(session: onnxruntime.InferenceSession) -> None:
    one, other = draw(B, 1, ACTIONS, seed=1), draw(B, 1, ACTIONS, seed=2)

    def differ(stream: OnnxStream, dropped: bool) -> bool:
        outputs = [session.run(["output"], given(stream, action, dropped))[0] for action in (one, other)]
        return bool((outputs[0] != outputs[1]).any())

    assert not differ(OnnxStream(session), dropped=False)
    assert differ(begun(session), dropped=False)
    assert not differ(begun(session), dropped=True)


def test_weights_in_a_file_of_their_own_are_put_in_place_too(
    model: Path, exported: tuple[Path, ExportResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(step: object, state: object, size: object, window: object, file: Path) -> None:
        onnx.save_model(
            onnx.load(exported[0]), file, save_as_external_data=True, location=target.data_of(file).name
        )

    monkeypatch.setattr(exporting, "write", write)
    file = tmp_path / "large.onnx"
    report = exporting.export(model, file, settings(frames=1, steps=1))
    assert sorted(tmp_path.iterdir()) == [file, target.data_of(file)]
    assert report.ok and report.bytes == file.stat().st_size + target.data_of(file).stat().st_size
    open_session(file)
    file.unlink()
    with pytest.raises(V2WError, match=r"large.onnx.data is there already"):
        exporting.export(model, file)


def test_sizes_come_from_the_model_unless_given(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def write(step: object, state: object, size: object, window: int, file: Path) -> None:
        sizes.append((size, window))
        file.touch()

    monkeypatch.setattr(exporting, "write", write)
    report = exporting.export(model, tmp_path / "a.onnx", ExportSettings(check=False))
    other = ExportSettings(batch=2, width=16, window=WINDOW, check=False)
    exporting.export(model, tmp_path / "b.onnx", other)
    assert sizes == [((1, 8, 8), WINDOW), ((2, 8, 16), WINDOW)]
    assert report.ok and report.frames == 0 and report.largest_difference is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("taken.onnx", {}, r"taken.onnx is there already"),
        ("step.pt", {}, r"step.pt does not end in .onnx"),
        ("step", {}, r"step does not end in .onnx"),
        ("nowhere/step.onnx", {}, r"no folder .*nowhere"),
        ("step.onnx", {"window": 7}, r"a window of 7, but the plan has 5"),
    ],
)
def test_refusals_write_nothing(
    name: str, options: dict[str, Any], message: str, already: None, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken.onnx").write_text("mine")
    with pytest.raises(V2WError, match=message):
        exporting.export(model, tmp_path / name, ExportSettings(**options))
    assert [file.name for file in tmp_path.iterdir()] == ["taken.onnx"]
    assert (tmp_path / "taken.onnx").read_text() == "mine"


def test_sizes_below_one_are_no_settings() -> None:
    with pytest.raises(ValidationError) as error:
        ExportSettings.model_validate({"height": 0, "frames": -1})
    assert [fault["loc"] for fault in error.value.errors()] == [("height",), ("frames",)]


def test_refuses_what_is_no_converted_model(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(V2WError, match="not a converted model"):
        exporting.export(tiny_base, tmp_path / "step.onnx")


@pytest.mark.parametrize("missing", target.PACKAGES)
def test_names_the_extra_of_a_missing_package(
    missing: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(V2WError, match=rf"{missing} not installed .*pip install v2w-convert\[export\]"):
        exporting.export(model, tmp_path / "step.onnx")


def test_asks_for_sizes_that_the_model_does_not_say(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"sample_size": [8, 16]}))
    manifest = json.loads((folder / "v2w.json").read_text())
    for operation in manifest["plan"]["operations"]:
        if "causal_attention" in operation:
            operation["causal_attention"]["window"] = None
        if "frame_position" in operation:
            operation["frame_position"]["period"] = None
    (folder / "v2w.json").write_text(json.dumps(manifest))
    with pytest.raises(V2WError, match=r"say height, window .*--height N --window N"):
        exporting.export(folder, tmp_path / "step.onnx", ExportSettings(width=8))


@pytest.mark.parametrize(
    ("error", "seen"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError("disk full"), V2WError)]
)
def test_a_broken_off_export_leaves_nothing(
    error: BaseException,
    seen: type[BaseException],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(step: object, state: object, size: object, window: object, file: Path) -> None:
        file.write_text("half")
        raise error

    monkeypatch.setattr(exporting, "write", write)
    with pytest.raises(seen):
        exporting.export(model, tmp_path / "step.onnx")
    assert not [*tmp_path.iterdir()]
