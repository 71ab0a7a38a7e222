"""Conditions that are each episode's own are inputs of the exported step."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from v2w_convert.errors import V2WError
from v2w_convert.onnx_export import onnx as exporting
from v2w_convert.onnx_export.conditions import ConditionInput, condition_inputs, fit_conditions
from v2w_convert.onnx_export.onnx import own_conditions
from v2w_convert.onnx_export.runner import METADATA, OnnxStream
from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.onnx_export.step import StreamStep
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

SIZE = B, H, W = 2, 4, 8
OWN = {"text": "first frame", "image_latents": "first frame"}
SHAPES = {"text": (B, 1, 16), "image_latents": (B, 1, 4, H, W)}


@pytest.fixture(scope="module")
def run(tiny_converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Stable Video Diffusion, as if it was finetuned with each clip's first frame."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(tiny_converted, folder)
    manifest = json.loads((folder / "v2w.json").read_text())
    record = {"conditions": OWN, "settings": {"frames": 3}, "steps": 1}
    (folder / "v2w.json").write_text(json.dumps(manifest | {"finetuning": record}))
    return folder


@pytest.fixture(scope="module")
def world(run: Path) -> World:
    loaded = load(run, dtype=torch.float32)
    assert isinstance(loaded, World)
    return loaded


def picture(later_frames: Any, entries: int) -> ConditionInput:
    return ConditionInput(
        shape=(1, entries, 1, 1, 1), dtype="float", source="first frame", later_frames=later_frames
    )


def given(*entries: float, once: bool = False) -> np.ndarray:
    """(1 T 1 1 1), or (1 1 1 1)."""
    value = np.array(entries).reshape(1, -1, 1, 1, 1)
    return value[:, 0] if once else value


def draw(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    ("later_frames", "entries", "value", "expected"),
    [
        ("same", 1, given(3, once=True), [3]),
        ("same", 1, given(3, 3, 3), [3]),
        ("same", 1, given(3, 4), None),
        ("zeros", 2, given(3, once=True), [3, 0]),
        ("zeros", 2, given(3, 0, 0), [3, 0]),
        ("own", 3, given(3, 4, 5), [3, 4, 5]),
        ("own", 3, given(3, 4), [3, 4, 4]),
        ("own", 3, given(3, 4, 5, 6), None),
        ("own", 3, given(3, once=True), None),
        ("own", 3, given(), None),
        (None, 3, given(3, 4), None),
    ],
)
def test_pictures_are_fitted_to_the_graphs_entries(
    later_frames: str | None, entries: int, value: np.ndarray, expected: list[float] | None
) -> None:
    found = picture(later_frames, entries).fitted(value)
    if expected is None:
        assert found is None
    else:
        assert found is not None and found.dtype == np.float32
        assert found.shape == (1, entries, 1, 1, 1) and found.flatten().tolist() == expected


def test_all_that_is_wrong_is_named(world: World) -> None:
    inputs = condition_inputs(world, OWN, SIZE, 3)
    fine = {name: value.numpy() for name, value in draw(0).items()}
    assert fit_conditions(inputs, fine).keys() == OWN.keys()
    with pytest.raises(V2WError) as error:
        fit_conditions(inputs, {"image_latents": fine["image_latents"][:1], "prompt": fine["text"]})
    for fault in (
        "text (of the first frame) is missing: (2, 1, 16)",
        "image_latents is (1, 1, 4, 4, 8), not (2, 1, 4, 4, 8)",
        "prompt is not an input of this graph",
    ):
        assert fault in error.value.found
    with pytest.raises(V2WError, match=r"text is not an input .*no conditions"):
        fit_conditions({}, {"text": fine["text"]})


def test_the_step_gives_them_to_the_world(run: Path, tiny_converted: Path, world: World) -> None:
    inputs = own_conditions(run, world, SIZE)
    assert {name: wanted.shape for name, wanted in inputs.items()} == SHAPES
    assert own_conditions(tiny_converted, world, SIZE) == {}
    state = world.empty_state(*SIZE)
    step = StreamStep(world, state, inputs)
    assert step.inputs[-2:] == ["condition.text", "condition.image_latents"]
    own, generator = draw(0), torch.Generator().manual_seed(1)
    frame, level = torch.randn(B, 1, 4, H, W, generator=generator), torch.full((B, 1), 300.0)
    actions, dropped = torch.zeros(B, 1, world.action_dim), torch.zeros(B, 1, dtype=torch.bool)
    kept = [state.sites[site][key] for site, key in step.kept]
    output, *_ = step(frame, level, actions, dropped, state.cursor, *kept, *own.values())
    expected, _ = world.forward_streamed(state, frame, level, actions, dropped, commit=True, **own)
    without, _ = world.forward_streamed(state, frame, level, actions, dropped, commit=True)
    assert torch.equal(output, expected) and not torch.equal(output, without)


def test_drawn_masks_have_a_token() -> None:
    mask = ConditionInput(shape=(64, 3), dtype="int64", source="task", later_frames=None)
    drawn = mask.draw(torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.int64 and drawn.shape == (64, 3)
    assert (drawn[:, 0] == 1).all() and set(drawn.sum(1).tolist()) == {1, 2, 3}


def test_a_condition_that_the_model_does_not_have_is_refused(run: Path, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    file = folder / "v2w.json"
    file.write_text(file.read_text().replace('"image_latents": "first frame"', '"smell": "first frame"'))
    with pytest.raises(V2WError, match="the model has no condition smell"):
        own_conditions(folder, world, SIZE)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.onnx.OnnxExporterError("this branches on values"),
            "this branches on values .*condition stored",
        ),
        (None, "run the graph by onnxruntime: .*condition stored"),  # it does not know what was written
    ],
)
def test_what_cannot_be_exported_is_refused(
    error: Exception | None, message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(step: object, state: object, size: object, window: object, file: Path) -> None:
        file.write_text("no graph")
        if error is not None:
            raise error

    monkeypatch.setattr(exporting, "write", write)
    with pytest.raises(V2WError, match=message):
        exporting.export(run, tmp_path / "step.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_rollout_has_its_own_picture(run: Path, world: World, tmp_path: Path) -> None:
    file = tmp_path / "step.onnx"
    result = exporting.export(run, file, ExportSettings(batch=B, height=H, width=W, frames=7, steps=2))
    assert result.ok and result.largest_difference is not None
    assert result.inputs[-2:] == ["condition.text", "condition.image_latents"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    assert {value.name: tuple(value.shape) for value in session.get_inputs()[-2:]} == {
        f"condition.{name}": shape for name, shape in SHAPES.items()
    }
    facts = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])["condition_inputs"]
    assert facts["image_latents"] == {
        "name": "condition.image_latents",
        "shape": [B, 1, 4, H, W],
        "dtype": "float",
        "source": "first frame",
        "later_frames": "same",
    }
    sampling, rollouts = Sampling(steps=2), []
    for seed in (3, 4):
        own = draw(3) | {"image_latents": draw(seed)["image_latents"]}
        ours = world.stream(B, H, W, sampling=sampling, **own)
        theirs = OnnxStream(session, sampling, conditions={name: x.numpy() for name, x in own.items()})
        rollouts.append(np.stack([theirs.step() for _ in range(2)]))
        assert np.abs(rollouts[-1] - torch.stack([ours.step() for _ in range(2)]).numpy()).max() <= 1e-4
    assert np.abs(rollouts[0] - rollouts[1]).max() > 1e-2
    with pytest.raises(V2WError, match="image_latents .*is missing"):
        OnnxStream(session, conditions={"text": draw(3)["text"].numpy()})
    with pytest.raises(V2WError, match="text .*is missing"):
        OnnxStream(session)
