"""Makers' own layouts convert to what the diffusers folder of the same model converts to, bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import infer_diffusers_model_type
from safetensors.torch import save_file

from tests.checkpoint.originals import ORIGINALS, narrow_hunyuan, original
from tests.cli.commands import refused
from v2w_convert.checkpoint import original_folder
from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.layouts.mapping import map_tensors
from v2w_convert.checkpoint.layouts.wan import AUTOENCODER_MAPPING
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.cli import run
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.surgery.load import open_converted
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.claims.files import measure_base_files, measure_config
from v2w_convert.verification.claims.tensors import measure_base_completeness, measure_values
from v2w_convert.world.vae import open_vae


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_hunyuan(monkeypatch)


def convert(base: Path, output: Path, *more: str) -> Path:
    assert run(["convert", str(base), "-o", str(output), "--action-dim", "2", *more]) == 0
    return output


def same_tensors(one: Path, other: Path) -> None:
    a, b = (open_source(folder).tensors for folder in (one, other))
    assert a.keys() == b.keys()
    for name, info in a.items():
        x, y = read_tensor(info), read_tensor(b[name])
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        assert torch.equal(*(value.flatten().view(torch.uint8) for value in (x, y))), name
    before, after = (read_manifest(folder) for folder in (one, other))
    assert before.tensors == after.tensors


FAST = {("wan", "ComfyUI's"), ("hunyuan-video", "pickle"), *((name, "safetensors") for name in ORIGINALS)}
CASES = [
    pytest.param(name, kind, marks=() if (name, kind) in FAST else pytest.mark.slow)
    for name in ORIGINALS
    for kind in ("safetensors", "ComfyUI's", "pickle")
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_single_file_converts_like_the_diffusers_folder(name: str, kind: str, tmp_path: Path) -> None:
    model, state = original(name)
    assert infer_diffusers_model_type(dict(state)).startswith(ORIGINALS[name].kind)
    prefix = "model.diffusion_model."
    if kind == "ComfyUI's" and not next(iter(state)).startswith((prefix, "net.")):
        state = {prefix + key: tensor for key, tensor in state.items()}
    file = tmp_path / ("model.pt" if kind == "pickle" else "model.safetensors")
    if kind == "pickle":
        torch.save({"module": state}, file)
    else:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, file)
    source = open_source(file)
    assert differences(complete(source.config), complete_config(model)) == {}
    model.save_pretrained(tmp_path / "folder" / "transformer")
    (tmp_path / "folder" / "model_index.json").write_text("{}")
    (tmp_path / "folder" / "scheduler").mkdir()
    assert source.scheduler is not None
    (tmp_path / "folder" / "scheduler" / "scheduler_config.json").write_text(json.dumps(source.scheduler))
    same_tensors(convert(file, tmp_path / "a"), convert(tmp_path / "folder", tmp_path / "b"))
    index = json.loads((tmp_path / "a" / "model_index.json").read_text())
    assert index["_class_name"].endswith("Pipeline")


def complete(config: dict[str, Any]) -> dict[str, Any]:
    return complete_config(build_model(config["_class_name"], config, unfilled=True))


def differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Entries that differ, but those that no weight depends on: lengths of tables, rotation's axes."""
    untold = {"_class_name", "max_sequence_length", "rope_max_seq_len"}
    keys = (found.keys() | expected.keys()) - untold
    pairs = {key: (found.get(key), expected.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if listed(pair[0]) != listed(pair[1])}


def listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_verify_knows_the_file_as_the_base(tmp_path: Path) -> None:
    """The claims about files and tensors, against the file itself."""
    _, state = original("mochi")
    file = tmp_path / "dit.safetensors"
    save_file(state, file)
    out = convert(file, tmp_path / "out")
    manifest, converted, resolved = open_converted(out)
    base = open_source(file, manifest.choice)
    claims = [
        *measure_values(base, converted, resolved, manifest),
        measure_base_completeness(base, resolved),
        measure_base_files(base, manifest),
        measure_config(base, converted),
    ]
    assert [claim.id for claim in claims if not claim.ok] == []
    assert run(["convert", str(file), "-o", str(out), "--action-dim", "2"]) == 0  # already converted


def wan_folder(folder: Path, shards: int = 1) -> dict[str, torch.Tensor]:
    """As Wan-AI publishes it: a config of its own, shards, the autoencoder and the prompt's encoder beside them."""
    _, state = original("wan")
    folder.mkdir()
    own = {
        "_class_name": "WanModel",
        "model_type": "t2v",
        "dim": 128,
        "num_heads": 2,
        "eps": 1e-5,
        "in_dim": 4,
    }
    (folder / "config.json").write_text(json.dumps(own))
    names = list(state)
    for number in range(shards):
        part = {name: state[name] for name in names[number::shards]}
        save_file(part, folder / f"diffusion_pytorch_model-{number + 1:05}-of-{shards:05}.safetensors")
    shard_of = {
        name: f"diffusion_pytorch_model-{n % shards + 1:05}-of-{shards:05}.safetensors"
        for n, name in enumerate(names)
    }
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": shard_of})
    )
    (folder / "models_t5_umt5-xxl-enc-bf16.pth").touch()
    return state


def test_a_folder_of_wan_converts_shard_by_shard(tmp_path: Path) -> None:
    """Its own config.json tells what shapes do not: heads, epsilon."""
    wan_folder(tmp_path / "base", shards=3)
    out = convert(tmp_path / "base", tmp_path / "out")
    config = json.loads((out / "transformer" / "config.json").read_text())
    assert (config["num_attention_heads"], config["attention_head_dim"], config["eps"]) == (2, 64, 1e-5)
    assert json.loads((out / "scheduler/scheduler_config.json").read_text())["flow_shift"] == 3.0
    assert len(list((out / "transformer").glob("diffusion_pytorch_model-*.safetensors"))) == 3
    assert not list(out.rglob("*.pth"))
    _, state = original("wan")
    save_file(state, tmp_path / "model.safetensors")
    same_tensors(out, convert(tmp_path / "model.safetensors", tmp_path / "other"))


def test_the_autoencoder_of_wan_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wan_folder(tmp_path / "base")
    torch.manual_seed(0)
    small = {"base_dim": 4, "z_dim": 16}
    model = AutoencoderKLWan(**small)
    monkeypatch.setattr(original_folder, "AUTOENCODER", {"_class_name": "AutoencoderKLWan", **small})
    torch.save(wan_vae(model.state_dict()), tmp_path / "base" / "Wan2.1_VAE.pth")
    out = convert(tmp_path / "base", tmp_path / "out")
    found = open_vae(out).autoencoder.state_dict()
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
    assert json.loads((out / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderKLWan"]


def wan_vae(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the makers' names: of all that there could be, those that diffusers maps to these."""
    layers = [f"residual.{n}" for n in (0, 2, 3, 6)]
    layers += ["shortcut", "resample.1", "time_conv", "norm", "to_qkv", "proj"]
    paths = ["conv1", "conv2", "encoder.conv1", "decoder.conv1"]
    for side, blocks in {"encoder.downsamples": 11, "decoder.upsamples": 15}.items():
        coder = side.split(".")[0]
        homes = [*(f"{side}.{n}" for n in range(blocks)), *(f"{coder}.middle.{n}" for n in range(3))]
        paths += [
            *(f"{home}.{layer}" for home in homes for layer in layers),
            f"{coder}.head.0",
            f"{coder}.head.2",
        ]
    names = {f"{path}.{end}": None for path in paths for end in ("weight", "bias", "gamma")}
    infos = {name: TensorInfo("F32", (1,), Path(name), 0, 4) for name in names}
    theirs = {new: str(info.file) for new, info in map_tensors(AUTOENCODER_MAPPING, infos).items()}
    return {theirs[name]: tensor for name, tensor in state.items()}


def test_experts_in_one_folder_are_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("high_noise_model", "low_noise_model"):
        (tmp_path / "base" / name).mkdir(parents=True)
    line = refused(capsys, "convert", tmp_path / "base", "-o", tmp_path / "out", "--action-dim", 2)
    assert "two models" in line and "low_noise_model" in line
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named_with_the_two_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, state = original("mochi")
    del state["t5_yproj.weight"]
    save_file(state, tmp_path / "dit.safetensors")
    line = refused(capsys, "inspect", tmp_path / "dit.safetensors")
    assert "Mochi's own layout, but t5_yproj.weight is missing" in line
    assert "MochiTransformer3DModel.from_single_file(" in line and "save_pretrained(" in line


def test_a_folder_with_one_model_file_is_that_file(tmp_path: Path) -> None:
    _, state = original("ltx-video")
    (tmp_path / "base").mkdir()
    save_file(state, tmp_path / "base" / "ltx-video-2b.safetensors")
    save_file({"decoder.conv.weight": torch.ones(1)}, tmp_path / "base" / "decoder.safetensors")
    assert open_source(tmp_path / "base").class_name == "LTXVideoTransformer3DModel"
