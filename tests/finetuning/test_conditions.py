"""First frames as pictures and tasks as prompts, from convert to rollout, by the command line, on real recordings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.autoencoders import tiny_autoencoder
from tests.cli.commands import printed, refused
from tests.encoders.pipelines import PICTURED, Family, t5
from v2w_convert.data import Episode, open_dataset, write_dataset
from v2w_convert.encoders.episode import recorded_sources
from v2w_convert.encoders.picture import picture_encoder
from v2w_convert.encoders.prompt import encode_prompts
from v2w_convert.evaluation import rollout_video
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.evaluation.rollout_frames import rollout_frames
from v2w_convert.finetuning.conditions import Conditioned, cached_conditions
from v2w_convert.finetuning.latents import cached_latents
from v2w_convert.onnx_export.runner import OnnxStream
from v2w_convert.surgery.load import open_converted
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.world.vae import open_vae

DOOM = Path(__file__).parents[2] / "examples/doom/data/train"
CPU = torch.device("cpu")
FRAMES, T = 13, 3  # video frames of an episode, latent frames of a clip
RELEASED = {
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
}
SVD = replace(PICTURED[0], scheduler=lambda: diffusers.EulerDiscreteScheduler(**RELEASED))
WAN = PICTURED[1]
COGVIDEOX = Family(
    "CogVideoXImageToVideoPipeline",
    "cogvideox-i2v",
    t5(8),
    diffusers.CogVideoXDDIMScheduler,
    {"sample_height": 4, "sample_width": 4, "max_text_seq_length": 8},
    settings={"vae": tiny_autoencoder("AutoencoderKLCogVideoX")},
)


def doom(folder: Path, task: str = "wander") -> Path:
    """The beginnings of three episodes, half as large."""
    data = open_dataset(DOOM)
    episodes = []
    for number, episode in enumerate(data.episodes()):
        episodes.append(Episode(episode.frames[:FRAMES, ::2, ::2].copy(), episode.actions[:FRAMES]))
        if number == 2:
            break
    write_dataset(episodes, folder, fps=9, action_names=data.action_names, task=task)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return doom(tmp_path_factory.mktemp("doom") / "data")


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """`convert(family, actions, *options)`: a converted folder."""

    def write(family: Family, actions: int, *options: object) -> Path:
        base = family.save(tmp_path / "base")
        printed(capsys, "convert", base, "-o", tmp_path / "converted", "--action-dim", actions, *options)
        return tmp_path / "converted"

    return write


SHORT = ["--steps", 1, "--batch", 2, "--frames", T, "--device", "cpu"]
WAN_OWN = {"text": "task", "image_latents": "first frame", "image_embeds": "first frame"}


def rolled_out(run: Path, data: Path, file: Path, *options: object) -> list[object]:
    history = 5 if read_manifest(run).action_dim == 12 else 2
    return [
        "rollout",
        run,
        "--data",
        data,
        "-o",
        file,
        "--frames",
        4,
        "--steps",
        2,
        "--history",
        history,
        *options,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "actions", "own", "entries"),
    [
        pytest.param(SVD, 3, {"image_latents": "first frame", "text": "first frame"}, 1, id="svd"),
        pytest.param(WAN, 12, WAN_OWN, T, id="wan"),
        pytest.param(COGVIDEOX, 12, {"text": "task", "image_latents": "first frame"}, 2, id="cogvideox"),
    ],
)
def test_what_is_finetuned_and_rolled_out_with_conditions_is_verified(
    family: Family,
    actions: int,
    own: dict[str, str],
    entries: int,
    convert: Callable[..., Path],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted, run = convert(family, actions), tmp_path / "run"
    result = printed(capsys, "finetune", converted, "--data", data, "-o", run, *SHORT, "--text-dropout", 0.5)
    assert result["conditions"] == own and all("autoencoder" in note for note in result["notes"])
    given = []

    def spy(*arguments: Any) -> Any:
        given.append(arguments[-1])
        return rollout_frames(*arguments)

    monkeypatch.setattr(rollout_video, "rollout_frames", spy)
    frame = open_dataset(data).first().frames[0]
    prompts = [None] if family is SVD else [None, "run"]
    for number, prompt in enumerate(prompts):
        options = [] if prompt is None else ["--prompt", prompt]
        printed(capsys, *rolled_out(run, data, tmp_path / f"{number}.png", "--device", "cpu", *options))
        expected, _ = rollout_conditions(run, open_vae(run), [("wander",)], [frame], CPU, prompt)
        assert given[-1].keys() == own.keys() == expected.keys()
        for name, value in expected.items():  # the rollout, and the one beside it
            assert torch.equal(given[-1][name], value.expand(2, *value.shape[1:])), name
    height, width = expected["image_latents"].shape[-2:]
    file, size = tmp_path / "step.onnx", ["--height", height, "--width", width, "--frames", 6, "--steps", 2]
    result = printed(capsys, "export", run, "-o", file, *size)
    assert [name for name in result["inputs"] if "condition" in name] == [f"condition.{name}" for name in own]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = {value.name: value.shape for value in session.get_inputs()}
    assert inputs["condition.image_latents"][:2] == [1, entries]
    OnnxStream(session, conditions={name: value.numpy() for name, value in expected.items()})  # they fit
    printed(capsys, "verify", run, "--base", tmp_path / "base")
    printed(
        capsys,
        "evaluate",
        run,
        "--data",
        data,
        "--horizons",
        1,
        "--samples",
        1,
        "--long-frames",
        0,
        "--steps",
        1,
        "--history",
        5 if actions == 12 else 2,
        "--device",
        "cpu",
    )


def test_clips_and_rollouts_get_the_task_and_the_first_frame(
    convert: Callable[..., Path],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    converted, run = convert(WAN, 12, "--device", "cpu"), tmp_path / "run"
    assert read_manifest(converted).prompt == ""
    result = printed(capsys, "finetune", converted, "--data", data, "-o", run, *SHORT)
    manifest, _, resolved = open_converted(run)
    assert manifest.finetuning is not None
    assert result["conditions"] == manifest.finetuning["conditions"] == WAN_OWN
    assert manifest.prompt == ""  # still what is stored

    # What a clip of the run was given.
    vae, data_set, events = open_vae(run), open_dataset(data), []
    sources = recorded_sources(resolved, WAN_OWN)
    model = Conditioned(converted, read_manifest(converted), resolved, sources)
    clips = cached_latents(data_set, converted, run / "latents", vae, T, events.append)
    cached = cached_conditions(data_set, clips, model, run / "latents", vae, CPU, events.append)
    assert events == []  # it is all there
    assert cached is not None and len(clips) == 3 * (4 - T + 1)
    second = cached.of_clips(
        [1]
    )  # of the first episode, from its second latent frame, whose first video frame is 1
    frames = data_set.first().frames
    assert resolved.call.image_conditions is not None
    made = resolved.call.image_conditions(vae, frames[1], T)["image_latents"]
    assert torch.equal(second["image_latents"], made.half().float()[None])
    [[wander], [empty]] = [encode_prompts(run, resolved, [text], CPU) for text in ("wander", "")]
    assert torch.equal(second["text"], wander["text"][None]) and not torch.equal(
        wander["text"], empty["text"]
    )
    with picture_encoder(run, resolved, CPU) as encode:
        assert torch.equal(second["image_embeds"], encode(frames[1])["image_embeds"].half().float()[None])

    # A rollout that starts where a clip does is given the same.
    first = cached.of_clips([0])
    rolled, _ = rollout_conditions(run, vae, [("wander",)], [frames[0]], CPU)
    assert rolled.keys() == first.keys()
    for name, value in rolled.items():
        assert torch.equal(value.half(), first[name].half()), name
    other, _ = rollout_conditions(run, vae, [("wander",)], [frames[0]], CPU, "run")
    assert not torch.equal(other["text"], rolled["text"])

    # Dropped, a condition is what the model has stored.
    dropped = cached.of_clips(
        [0, 1], {"text": [False, True], "image_embeds": [True] * 2, "image_latents": [True] * 2}
    )
    assert torch.equal(dropped["text"][1], empty["text"])
    assert torch.equal(dropped["text"][0], wander["text"])
    assert not dropped["image_embeds"].any() and not dropped["image_latents"].any()
    assert torch.equal(cached.of_clips([0], {"text": [True]})["image_latents"], first["image_latents"])


@pytest.mark.slow
def test_conditions_can_be_turned_off(
    tiny_converted: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    stored = ["--text-condition", "stored", "--image-condition", "stored"]
    result = printed(capsys, "finetune", tiny_converted, "--data", tiny_data, "-o", run, *SHORT, *stored)
    assert result["conditions"] == {}
    assert len(list((run / "latents").iterdir())) == 1


def test_a_stride_makes_fewer_clips(tiny_converted: Path, tiny_data: Path, tmp_path: Path) -> None:
    data, vae = open_dataset(tiny_data), open_vae(tiny_converted)
    every, third = (
        cached_latents(data, tiny_converted, tmp_path, vae, 6, lambda _: None, stride) for stride in (1, 3)
    )
    starts = [(name, list(starts)) for name, starts in third.starts()]
    assert starts == [("00000000", [0, 3]), ("00000001", []), ("00000002", [0]), ("00000003", [0, 3, 6])]
    assert len(third) == 6 and [third.locate(i)[1] for i in range(6)] == [0, 3, 0, 0, 3, 6]
    assert torch.equal(third.clips([1])[0], every.clips([3])[0])


@pytest.mark.slow
def test_an_episode_with_several_tasks_is_refused_before_anything_is_written(
    convert: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted, data = convert(WAN, 12), doom(tmp_path / "data")
    two_tasks(data, 20)
    arguments = ["finetune", converted, "--data", data, "-o", tmp_path / "run", *SHORT]
    line = refused(capsys, *arguments)
    assert "episode 1 has several tasks: 'wander', 'run'" in line and "--text-condition stored" in line
    assert not (tmp_path / "run").exists()


def two_tasks(folder: Path, index: int) -> None:
    """Have every frame from `index` on another task."""
    file = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    column = table.column_names.index("task_index")
    numbers = pa.array([int(i >= index) for i in table["index"].to_pylist()])
    pq.write_table(table.set_column(column, "task_index", numbers), file)
    pq.write_table(pa.table({"task_index": [0, 1], "task": ["wander", "run"]}), folder / "meta/tasks.parquet")
