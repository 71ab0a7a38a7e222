"""Rollouts by another engine are those of torch.

To write a graph takes half a minute: most tests use one that is kept.
"""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.cli.commands import printed, refused
from v2w_convert.checkpoint.digests import file_digest
from v2w_convert.engines import onnx_world
from v2w_convert.engines.onnx_world import OnnxWorld
from v2w_convert.engines.open import open_engine
from v2w_convert.errors import V2WError
from v2w_convert.onnx_export import onnx as exporting
from v2w_convert.onnx_export import target
from v2w_convert.playing.game import open_game
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.progress import no_progress
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling, SeededStream, StreamingModel, join_streams, start_stream

H, W, WINDOW, ACTIONS = 8, 8, 5, 3  # of the tiny model and its data's latents
PICTURES = 1  # its picture is the same for all frames
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def heeding(tiny_converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as training might leave it: actions have an effect."""
    folder = tmp_path_factory.mktemp("models") / "heeding"
    shutil.copytree(tiny_converted, folder)
    file = folder / "unet" / "v2w_added.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(file)
    for name, value in tensors.items():
        if not value.any() and value.is_floating_point():
            tensors[name] = (0.2 * torch.randn(value.shape, generator=generator)).to(value)
    save_file(tensors, file)
    return folder


@pytest.fixture(scope="module")
def world(heeding: Path) -> World:
    found = load(heeding, dtype=torch.float32)
    assert isinstance(found, World)
    return found


@pytest.fixture(autouse=True, scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which graphs are kept: the same one is not written again."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home / "v2w" / "graphs"


@pytest.fixture(scope="module")
def by_onnx(heeding: Path) -> OnnxWorld:
    found = open_engine(heeding, "onnx", CPU, torch.float32)
    assert isinstance(found, OnnxWorld)
    return found


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def begun(model: StreamingModel, seeds: list[int], seen: int) -> SeededStream:
    """Rollouts that have observed some frames, each its own, and have a picture of their own."""
    b = len(seeds)
    pictures = torch.stack([draw(PICTURES, 4, H, W, seed=100 + seed) for seed in seeds])
    stream = start_stream(
        model, b, H, W, sampling=Sampling(2, 2.0, history_guidance=1.5), seed=seeds, image_latents=pictures
    )
    assert isinstance(stream, SeededStream)
    frames = torch.stack([draw(seen, 4, H, W, seed=seed) for seed in seeds])
    stream.observe(frames, torch.stack([draw(seen, ACTIONS, seed=seed) for seed in seeds]))
    return stream


@pytest.mark.slow
def test_onnxruntimes_rollouts_are_torchs(world: World, by_onnx: OnnxWorld) -> None:
    """Past the window, with and without actions, of two rollouts; the state as well."""
    ours, theirs = (begun(model, [1, 2], 3) for model in (world, by_onnx))
    for step in range(WINDOW + 1):
        action = None if step == 2 else draw(2, ACTIONS, seed=step)
        expected, found = ours.step(action), theirs.step(action)
        assert (found - expected).abs().max() <= exporting.MAX_DIFFERENCE
    assert theirs.state.cursor == ours.state.cursor == WINDOW + 4
    for site, kept in ours.state.sites.items():
        for name, value in kept.items():
            torch.testing.assert_close(theirs.state.sites[site][name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_rollout_does_not_depend_on_the_others(by_onnx: OnnxWorld) -> None:
    """Bit for bit: alone, chosen out of several, joined with others, and branched off."""
    alone = begun(by_onnx, [1], 2)
    pair = begun(by_onnx, [7, 1], 2)
    joined = join_streams([begun(by_onnx, [5], 2), pair.select([1])])
    twin = pair.branch()
    action = draw(1, ACTIONS)
    expected = torch.stack([alone.step(action) for _ in range(2)], 1)[0]
    for stream, row in ((pair, 1), (joined, 1), (twin, 1)):
        found = torch.stack([stream.step(action.expand(2, -1)) for _ in range(2)], 1)
        assert torch.equal(found[row], expected)


@pytest.mark.slow
def test_a_pass_that_does_not_commit_leaves_no_trace(by_onnx: OnnxWorld) -> None:
    stream = begun(by_onnx, [1], 2)
    before = {
        site: {name: x.clone() for name, x in kept.items()} for site, kept in stream.state.sites.items()
    }
    level = torch.full((1, 2), 300.0)
    _, after = by_onnx.forward_streamed(stream.state, draw(1, 2, 4, H, W), level, draw(1, 2, ACTIONS))
    assert after is stream.state
    for site, kept in before.items():
        assert all(torch.equal(stream.state.sites[site][name], value) for name, value in kept.items())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_a_graph_that_is_kept_is_used_if_it_is_what_was_written_and_its_frames_are_torchs(
    world: World, graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(OnnxWorld(world), [1], 1)
    newest = max(graphs.iterdir(), key=lambda entry: entry.stat().st_mtime)
    entry = Path(shutil.copytree(newest, tmp_path / newest.name))
    file, whole = entry / "step.onnx", contents(tmp_path)
    kept, written = file.read_bytes(), []

    def written_again(step: Any, state: Any, size: Any, window: int, file: Path) -> None:
        written.append(file)
        file.write_bytes(kept)  # as it would be after half a minute

    monkeypatch.setattr(onnx_world, "write", written_again)

    def frames() -> torch.Tensor:
        return begun(OnnxWorld(world, tmp_path), [1], 1).step(draw(1, ACTIONS))

    expected = frames()
    assert written == [] and contents(tmp_path) == whole
    file.write_bytes(kept[:-1])
    assert torch.equal(frames(), expected)
    assert len(written) == 1 and contents(tmp_path) == whole
    # Another graph with right digests, as if the program had changed since: only its frames say so.
    bias = world.base.get_parameter("conv_out.bias")
    at = kept.index(bias.numpy().tobytes())
    file.write_bytes(kept[:at] + np.float32(7).tobytes() + kept[at + 4 :])
    (entry / "digests.json").write_text(json.dumps({file.name: file_digest(file)}))
    assert torch.equal(frames(), expected)
    assert len(written) == 2 and contents(tmp_path) == whole
    # A model with another weight has another graph. This one is not its own, and is neither used nor kept.
    before = bias.clone()
    with torch.no_grad():
        bias.add_(1)
    try:
        with pytest.raises(V2WError, match="its frames differ from torch's"):
            frames()
    finally:
        with torch.no_grad():
            bias.copy_(before)
    assert len(written) == 3 and contents(tmp_path) == whole


@pytest.mark.slow
def test_what_is_not_finite_is_told_as_by_torch(world: World, by_onnx: OnnxWorld) -> None:
    said = []
    for model in (world, by_onnx):
        with pytest.raises(V2WError, match="action is not finite") as error:
            begun(model, [1], 2).step(torch.full((1, ACTIONS), torch.nan))
        said.append(str(error.value))
    assert said[0] == said[1]


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


def rolled_out(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, output: Path, engine: str
) -> np.ndarray:
    options = ["--frames", 6, "--steps", 2, "--history", 2, "--device", "cpu", "--engine", engine]
    result = printed(capsys, "rollout", run, "--data", data, "-o", output, *options)
    assert result["settings"]["engine"] == engine
    return pixels(output)


@pytest.mark.slow
def test_rollout_by_onnxruntime(
    heeding: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = rolled_out(capsys, heeding, tiny_data, tmp_path / "torch.png", "torch")
    found = rolled_out(capsys, heeding, tiny_data, tmp_path / "onnx.png", "onnx")
    assert np.abs(found - expected).max() <= 1


@pytest.mark.slow
def test_rollout_by_a_compiler(
    heeding: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What inductor computes is tests/world/test_compile.py's; here what is compiled runs as it is."""
    expected = rolled_out(capsys, heeding, tiny_data, tmp_path / "torch.png", "torch")
    with torch.compiler.set_stance("force_eager"):
        found = rolled_out(capsys, heeding, tiny_data, tmp_path / "compiled.png", "compile")
    assert np.array_equal(found, expected)
    compiled = open_engine(heeding, "compile", CPU, torch.float32)
    assert isinstance(compiled, World) and compiled._compiled_streamed is not None


@pytest.mark.slow
def test_play_by_onnxruntime(heeding: Path, tiny_data: Path) -> None:
    """Visitors at different places, as the worker steps them."""
    shown = []
    for engine in ("torch", "onnx"):
        settings = PlaySettings(steps=1, history=2, starts=2, device="cpu", engine=engine)
        game = open_game(heeding, tiny_data, settings, no_progress)
        actions = [np.array(game.controls.action(game.controls.resting()))] * 2
        first = game.begin(0, 0, game.sampling)
        [later] = game.step([first], actions[:1], game.sampling)
        moments = game.step([first, later], actions, game.sampling)
        shown.append([picture(moment.pictures[0]) for moment in moments])
    assert np.abs(np.stack(shown[0]) - np.stack(shown[1])).max() <= 1


def picture(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file))).astype(int)


def test_refusals(
    heeding: Path,
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for command, output in (("rollout", tmp_path / "out.png"), ("evaluate", tmp_path / "out.json")):
        given = [command, heeding, "--data", tiny_data, "-o", output, "--history", 2, "--engine", "onnx"]
        line = (
            refused(capsys, *given, "--horizons", 1, "--dtype", "bfloat16")
            if command == "evaluate"
            else (refused(capsys, *given, "--dtype", "bfloat16"))
        )
        assert "in float32 on the CPU, not in bfloat16 on cpu (try: --device cpu --dtype float32)" in line
    play = ["play", heeding, "--data", tiny_data, "--history", 2, "--port", 0, "--engine", "onnx"]
    assert "not in float16 on cpu" in refused(capsys, *play, "--dtype", "float16")
    line = refused(capsys, *play, "--engine", "torch", "--cache", tmp_path / "graphs")
    assert "--cache keeps graphs of `engine: onnx`" in line
    monkeypatch.setattr(target, "PACKAGES", ("onnx", "no_such_package"))
    line = refused(capsys, *play)
    assert "no_such_package not installed (try: pip install v2w-convert[export])" in line


def test_without_a_compiler(
    heeding: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["rollout", heeding, "--data", tiny_data, "-o", tmp_path / "out.png", "--engine", "compile"]
    torch._dynamo.reset()  # what this process has compiled before needs no compiler
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        assert "by torch.compile" in refused(capsys, *given, "--device", "cpu")
