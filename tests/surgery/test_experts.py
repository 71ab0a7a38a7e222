"""Two denoisers are converted together: each as if it were the only one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import v2w_convert
from tests.pairs import BOUNDARY, convert_pair, write_pair
from v2w_convert.errors import V2WError
from v2w_convert.surgery.load import load
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.surgery.settings import ConvertSettings
from v2w_convert.world.experts import ExpertsWorld
from v2w_convert.world.model import World


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base with two denoisers, and what it is converted into."""
    folder = tmp_path_factory.mktemp("pair")
    base = write_pair(folder / "base", dtype=torch.bfloat16)
    return base, convert_pair(base, folder / "out")


def test_each_is_what_it_would_be_alone(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, out = pair
    world = load(out)
    assert isinstance(world, ExpertsWorld) and world.boundary == BOUNDARY
    for part, expert in zip(("transformer", "transformer_2"), world.experts.values(), strict=True):
        alone = load(convert_pair(base / part, tmp_path / part))
        assert isinstance(alone, World)
        expected = alone.base.state_dict()
        assert expected.keys() == expert.base.state_dict().keys()
        assert all(torch.equal(value, expected[name]) for name, value in expert.base.state_dict().items())


def test_the_manifest_and_the_card_say_it(pair: tuple[Path, Path]) -> None:
    _, out = pair
    manifest = read_manifest(out)
    assert manifest.low_noise is not None and manifest.boundary == BOUNDARY
    assert manifest.low_noise.tensors == manifest.tensors
    low, high = manifest.low_noise.files, manifest.source["files"]
    assert low.keys() == high.keys() and low != high
    assert {path.split("/")[0] for path in manifest.result} >= {"transformer", "transformer_2"}
    card = (out / "README.md").read_text()
    assert "`transformer` from timestep\n0.875 N on, `transformer_2` below it" in card
    assert f"{2 * list(manifest.tensors.values()).count('kept')} kept" in card


def test_inspect_says_it(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    both, one = v2w_convert.inspect(base), v2w_convert.inspect(base / "transformer_2")
    assert (both.boundary, one.boundary) == (BOUNDARY, None)
    assert both.parameters == 2 * one.parameters
    assert both.sites == one.sites


def test_links_and_the_preview_are_of_both(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = pair
    settings = ConvertSettings(action_dim=3, link=True)
    preview = v2w_convert.convert(base, tmp_path / "out", settings.model_copy(update={"dry_run": True}))
    weights = {f"{part}/diffusion_pytorch_model.safetensors" for part in ("transformer", "transformer_2")}
    assert {file.path for file in preview.files if file.copied == file.bytes} >= weights
    assert {name.split(".")[0] for name in preview.changes} == {"high", "low"}
    result = v2w_convert.convert(base, tmp_path / "out", settings)
    assert set(result.linked) >= weights
    assert result.tensors == preview.tensors
    assert v2w_convert.convert(base, tmp_path / "out", settings).already_converted


def test_another_second_denoiser_is_another_conversion(tmp_path: Path) -> None:
    base = write_pair(tmp_path / "base")
    settings = ConvertSettings(action_dim=3)
    v2w_convert.convert(base, tmp_path / "out", settings)
    first, second = (
        base / part / "diffusion_pytorch_model.safetensors" for part in ("transformer", "transformer_2")
    )
    second.write_bytes(first.read_bytes())
    with pytest.raises(V2WError, match="another plan, source or option"):
        v2w_convert.convert(base, tmp_path / "out", settings)


def test_a_fault_of_the_second_is_found_before_anything_is_written(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    base = write_pair(tmp_path / "base")
    weights = base / "transformer_2" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["proj_out.bias"]
    save_file(tensors, weights)
    with pytest.raises(V2WError, match=r"weights of .*transformer_2.*proj_out.bias is missing"):
        v2w_convert.convert(base, tmp_path / "out", ConvertSettings(action_dim=3))
    assert not (tmp_path / "out").exists()


def test_a_boundary_with_timesteps_that_fall_is_refused(tmp_path: Path) -> None:
    base = write_pair(tmp_path / "base")
    scheduler = base / "scheduler" / "scheduler_config.json"
    rising = {"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}
    scheduler.write_text(json.dumps(rising))
    with pytest.raises(V2WError, match="two denoisers with the boundary 0.875.*timesteps from 1000 to 0"):
        v2w_convert.convert(base, tmp_path / "out", ConvertSettings(action_dim=3))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changed", [{"boundary_ratio": 0.5}, {"boundary_ratio": None, "transformer_2": None}]
)
def test_files_and_manifest_that_disagree_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    out = convert_pair(write_pair(tmp_path / "base"), tmp_path / "out")
    index = out / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changed))
    with pytest.raises(V2WError, match="says boundary 0.875, the files say"):
        load(out)
