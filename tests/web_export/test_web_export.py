"""A page's folder rolls out as torch does: by its graphs in Python, and by its own scripts in a browser."""

import gzip
import json
import os
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.autoencoders import tiny_autoencoder
from tests.browser import find_browser
from tests.cli.commands import printed, refused
from tests.squares import moving_square
from tests.web_export.browser import visit
from v2w_convert.cli import run
from v2w_convert.data import Episode, write_dataset
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.rollout_frames import rollout_frames
from v2w_convert.noise import NoiseSpec
from v2w_convert.surgery.load import load
from v2w_convert.web_export import export as exporting
from v2w_convert.web_export import runtime
from v2w_convert.web_export.player import Player
from v2w_convert.web_export.sampling import history_table, step_tables
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.vae import open_vae

HERE = Path(__file__).parent
PACKAGE = os.environ.get("V2W_ONNXRUNTIME_WEB")  # npm's package, packed or unpacked
HISTORY, FRAMES, STEPS = 3, 16, 2
FAST = ["--frames", 8, "--steps", STEPS, "--history", HISTORY, "--starts", 2, "--guidance", 1.5]
LABELS = ["<b>hop</b>", "turn_left", "c"]


@pytest.fixture(scope="module")
def model(tiny_converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as training might leave it: actions have an effect."""
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
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "squares"
    episodes: list[Episode] = []
    for number, length in enumerate((6, 2, 6, 6)):
        episode = moving_square(length, number)
        keys = (np.arange(3 * length).reshape(length, 3) % 2).astype(np.float32)
        episodes.append(Episode(episode.frames, keys, episode.tasks))
    write_dataset(episodes, folder, fps=9, action_names=LABELS)
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, or files in its place where no test opens a browser."""
    if PACKAGE:
        return Path(PACKAGE)
    folder = tmp_path_factory.mktemp("npm") / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in runtime.WASM:
        (folder / "dist" / name).write_bytes(b"not the runtime")
    return folder


@pytest.fixture(scope="module")
def exported(
    model: Path, squares: Path, unpacked: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("exported") / "page"
    arguments = [model, "--web", folder, "--data", squares, "--runtime", unpacked, *FAST]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        if not PACKAGE:
            patch.setattr(runtime, "_checked", lambda file, size, digest: file.read_bytes())
        assert run(["export", *map(str, arguments), "--json"]) == 0
    return folder, json.loads(out.getvalue().splitlines()[-1])


def noise_and_frames(model: Path, folder: Path, guidance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers that torch draws, one after another, the actions (t a) and torch's frames (t 3 h w) for the first start."""
    world, vae = load(model, dtype=torch.float32), open_vae(model)
    player = Player(folder, lambda count: np.zeros(count, np.float32))
    start = player._tensors(folder, player.world["starts"][0])
    generator = torch.Generator().manual_seed(5)
    taken = torch.rand(FRAMES, 3, generator=generator).round()
    actions = torch.cat([torch.from_numpy(start["actions"].copy()), taken])[None]
    latents = torch.from_numpy(start["latents"].copy())
    sampling = Sampling(STEPS, guidance)
    pieces = rollout_frames(world, vae, latents[None], actions, HISTORY, sampling, 3)
    again = torch.Generator().manual_seed(3)
    size = latents[0].numel()
    drawn = [torch.randn(count, generator=again) for count in (HISTORY * size, *[size] * 2 * FRAMES)]
    return torch.cat(drawn).numpy(), taken.numpy(), torch.cat(list(pieces), 1)[0].numpy()


@pytest.mark.slow
def test_the_folder_rolls_out_as_torch(model: Path, exported: tuple[Path, dict[str, Any]]) -> None:
    folder, result = exported
    assert result["written"] and result["starts"] == [0, 3] and result["frames"] == 8
    assert 0 < result["largest_difference"] <= result["allowed"] == 1e-3
    files = {file.name: file.stat().st_size for file in folder.iterdir() if file.name != "config.yaml"}
    assert result["files"] == files and result["bytes"] == sum(files.values())
    assert [*folder.parent.iterdir()] == [folder]
    noise, actions, expected = noise_and_frames(model, folder, 1.5)
    at = 0

    def draw(count: int) -> np.ndarray:
        nonlocal at
        at += count
        return noise[at - count : at]

    player = Player(folder, draw)
    found = np.stack([player.picture(player.step(action, STEPS)) for action in actions])
    assert at == len(noise)
    assert np.abs(found - expected).max() <= 1e-3
    others = Player(folder, lambda count: np.zeros(count, np.float32))
    assert np.abs(others.picture(others.step(actions[0], STEPS)) - expected[0]).max() > 1e-2


@pytest.mark.slow
def test_what_differs_is_not_written(
    model: Path,
    squares: Path,
    unpacked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    exported: tuple[Path, dict[str, Any]],
) -> None:
    done, _ = exported
    monkeypatch.setattr(runtime, "_checked", lambda file, size, digest: file.read_bytes())
    for name in ("step", "decode"):
        graph = gzip.decompress((done / f"{name}.onnx.gz").read_bytes())
        monkeypatch.setattr(
            exporting,
            {"step": "write", "decode": "write_decoder"}[name],
            lambda *arguments, graph=graph: arguments[-1].write_bytes(graph),
        )
    history = exporting.history_table
    monkeypatch.setattr(exporting, "history_table", lambda *given: history(*given) | {"clean": 0.9})
    arguments = [model, "--data", squares, "--runtime", unpacked, *FAST]
    result = printed(capsys, "export-web", *arguments, "--web", tmp_path / "page", code=1)
    assert not result["written"] and result["largest_difference"] > 1e-3
    assert not [*tmp_path.iterdir()]


needs_browser = pytest.mark.skipif(
    not PACKAGE or find_browser() is None,
    reason="needs chromium, and V2W_ONNXRUNTIME_WEB: the path of npm's onnxruntime-web",
)


@needs_browser
@pytest.mark.slow
def test_a_browser_rolls_out_as_torch(model: Path, exported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = exported
    noise, actions, expected = noise_and_frames(model, folder, 1.5)
    found = visit(
        folder,
        "test.html",
        {
            "test.html": b'<!doctype html><script type="module" src="rollout.js"></script>',
            "rollout.js": (HERE / "rollout.js").read_bytes(),
            "given.json": json.dumps({"actions": actions.tolist(), "steps": STEPS}).encode(),
            "noise.bin": noise.astype("<f4").tobytes(),
        },
    )
    assert "error" not in found, found
    assert found["drawn"] == len(noise)
    assert np.abs(np.array(found["frames"]).reshape(expected.shape) - expected).max() <= 1e-3


@needs_browser
@pytest.mark.slow
def test_a_visitor_plays(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = exported
    page = (folder / "index.html").read_bytes()
    script = b'<script type="module" src="visitor.js"></script></head>'
    found = visit(
        folder,
        "index.html",
        {
            "index.html": page.replace(b"</head>", script),
            "visitor.js": (HERE / "visitor.js").read_bytes(),
        },
    )
    assert found.get("error") is None and found["status"].startswith("Ready"), found
    assert found["title"] == "randomized" and found["starts"] == 2
    assert found["controls"] == ["<b>hop</b>1", "turn left\u2190", "c2"] and found["markup"] == 0
    assert found["pressed"] == ["true", "false", "false"] and found["released"] == ["false"] * 3
    assert found["moved"] and found["running"] == "Pause" and found["more"] <= 2 and found["reset"]


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "ddpm", "prediction": "v"},
        {"kind": "ddpm", "prediction": "epsilon", "base_scale": 0.7},
        {"kind": "edm", "prediction": "v"},
        {"kind": "flow", "prediction": "flow"},
    ],
)
def test_tables_step_as_the_sampler(kind: dict[str, Any]) -> None:
    noise = NoiseSpec(**kind).build()
    table = step_tables(noise, 5, 1024)
    assert table.keys() == {"1", "2", "3", "4", "5", "6", "8", "10"}
    generator = torch.Generator().manual_seed(0)
    sampler = noise.sampler(5, 1024)
    ours = theirs = sampler.start(torch.randn(1, 1, 4, 2, 2, generator=generator, dtype=torch.float64))
    for i, (level, of_noisy, of_output) in enumerate(table["5"]["steps"]):
        assert level == float(sampler.levels[i])
        output = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
        ours, theirs = of_noisy * ours + of_output * output, sampler.step(output, theirs, i)
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    level = noise.history_level or 3.0
    said = history_table(noise, level)
    clean, random = torch.randn(2, 1, 1, 4, 2, 2, generator=generator, dtype=torch.float64)
    expected = noise.add_noise(clean, random, torch.full((1, 1), level))
    assert torch.allclose(said["clean"] * clean + said["noise"] * random, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"_class_name": "DPMSolverMultistepScheduler"}, "remembers steps"),
        ({"_class_name": "DDIMScheduler", "clip_sample": True}, "clip_sample"),
    ],
)
def test_samplers_that_a_page_has_not_are_refused(scheduler: dict[str, Any], said: str) -> None:
    noise = NoiseSpec(kind="ddpm", prediction="v", scheduler=scheduler).build()
    with pytest.raises(V2WError, match=said):
        step_tables(noise, 4, 1024)


def test_the_runtime_is_that_of_one_version(tmp_path: Path) -> None:
    folder = tmp_path / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name, (size, _) in runtime.WASM.items():
        with (folder / "dist" / name).open("wb") as file:
            file.truncate(size)  # of the right size, and nothing else
    tarball = tmp_path / "package.tgz"
    tarball.write_bytes(gzip.compress(b"a bomb would be unpacked"))
    os.mkfifo(tmp_path / "pipe")
    for given, found in (
        (None, "are not given"),
        (folder, "is not that of onnxruntime-web"),
        (tarball, "is not that of onnxruntime-web"),
        (tmp_path / "nothing", "there is no file"),
        (tmp_path / "pipe", "there is no file"),
        (tmp_path, "there is no file"),
    ):
        with pytest.raises(V2WError, match=rf"{found}.*npm pack onnxruntime-web@{runtime.VERSION}"):
            runtime.read_runtime(given, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "neither -o nor --web"),
        (["-o", "a.onnx", "--web", "page"], "-o and --web"),
        (["--web", "page"], "npm pack onnxruntime-web@"),
        (["--web", "page", "--runtime", "PACKAGE"], "no frames to begin from"),
        (["--web", "page", "--data", "DATA"], "npm pack onnxruntime-web@"),
        (["--web", "page", "--data", "DATA", "--batch", 2, "--width", 8], "--batch, --width"),
        (["-o", "a.onnx", "--starts", 2, "--runtime", "x"], "--starts, --runtime, which only --web takes"),
        (["--web", "taken", "--data", "DATA", "--runtime", "PACKAGE"], "not empty"),
        (
            ["--web", "page", "--data", "DATA", "--runtime", "PACKAGE", "--history", 7],
            "longest episode has 6",
        ),
        (["--web", "page", "--data", "DATA", "--runtime", "PACKAGE", "--steps", 1001], "1000 timesteps"),
    ],
)
def test_refusals_write_nothing(
    options: list[Any],
    said: str,
    model: Path,
    squares: Path,
    unpacked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "_checked", lambda file, size, digest: file.read_bytes())
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    places = {"DATA": squares, "PACKAGE": unpacked}
    line = refused(capsys, "export", model, *(places.get(option, option) for option in options))
    assert said in line
    assert [file.name for file in tmp_path.rglob("*")] == ["taken", "mine"]


def test_an_autoencoder_of_several_frames_is_refused(
    model: Path,
    squares: Path,
    unpacked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runtime, "_checked", lambda file, size, digest: file.read_bytes())
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    shutil.rmtree(folder / "vae")
    tiny_autoencoder("AutoencoderKLTemporalDecoder").save_pretrained(folder / "vae")
    line = refused(
        capsys, "export", folder, "--web", tmp_path / "page", "--data", squares, "--runtime", unpacked
    )
    assert "AutoencoderKLTemporalDecoder, decodes several frames together" in line
