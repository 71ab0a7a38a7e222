"""One finder of weights: for the denoiser, the autoencoder and the encoders; shards, variants, what torch.save wrote."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.commands import refused
from tests.conftest import ACTIONS
from v2w_convert.checkpoint.content import read_file
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import Choice, read_tensor
from v2w_convert.checkpoint.weights import find_weights, read_weights_of
from v2w_convert.cli import run
from v2w_convert.errors import V2WError
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.world.vae import open_vae

STEM = "diffusion_pytorch_model"
PLAIN = f"{STEM}.safetensors"


def touched(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


# In the order in which they are preferred: as diffusers looks.
ORDER = [
    f"{STEM}.safetensors.index.json",
    f"{STEM}.safetensors",
    f"{STEM}.bin.index.json",
    f"{STEM}.bin",
    f"{STEM}.safetensors.index.fp16.json",
    f"{STEM}.fp16.safetensors",
    f"{STEM}.bin.index.fp16.json",
    f"{STEM}.fp16.bin",
]


def test_the_order_of_preference(tmp_path: Path) -> None:
    touched(tmp_path, *ORDER, "config.json", "readme.md")
    for name in ORDER:
        assert find_weights(tmp_path, "x").file.name == name
        (tmp_path / name).unlink()
    with pytest.raises(V2WError, match="no diffusion_pytorch_model.safetensors"):
        find_weights(tmp_path, "x")


@pytest.mark.parametrize("stem", ["model", "pytorch_model"])
def test_encoders_are_found_by_the_names_of_transformers(stem: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, touched(tmp_path / "text_encoder") / f"{stem}.safetensors")
    found = read_weights_of(tmp_path / "text_encoder", "x")
    assert read_tensor(found.tensors["a"]).tolist() == [1, 1]


def test_a_variant_is_chosen_or_asked_for(tmp_path: Path) -> None:
    touched(tmp_path, f"{STEM}.bf16.safetensors", f"{STEM}.fp16.safetensors", f"{STEM}.any-Name_1.bin")
    assert find_weights(tmp_path, "x", "fp16").variant == "fp16"
    assert find_weights(tmp_path, "x", "any-Name_1").kind == "bin"
    assert find_weights(tmp_path, "x", any_variant=True).variant == "bf16"
    with pytest.raises(V2WError, match="in several variants: any-Name_1, bf16, fp16"):
        find_weights(tmp_path, "x")
    with pytest.raises(
        V2WError, match="no variant 'fp8' of the weights in .*; it has any-Name_1, bf16, fp16"
    ):
        find_weights(tmp_path, "x", "fp8")
    (tmp_path / PLAIN).touch()
    assert find_weights(tmp_path, "x").variant is None


@pytest.mark.parametrize("name", ["fp16-00001-of-00002", "00001-of-00002.fp16"])
def test_a_shard_is_no_variant(name: str, tmp_path: Path) -> None:
    separator = "." if name.startswith("fp16") else "-"
    touched(tmp_path, f"{STEM}{separator}{name}.safetensors")
    with pytest.raises(V2WError, match="but not the index"):
        find_weights(tmp_path, "x")


def test_shards_of_torch_are_stored_as_safetensors(tiny_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = load_file(base / "unet" / PLAIN)
    (base / "unet" / PLAIN).unlink()
    names = list(weights)
    shard_of = {n: f"{STEM}-0000{1 + i % 2}-of-00002.bin" for i, n in enumerate(names)}
    for shard in set(shard_of.values()):
        torch.save({n: weights[n] for n in names if shard_of[n] == shard}, base / "unet" / shard)
    (base / "unet" / f"{STEM}.bin.index.json").write_text(json.dumps({"weight_map": shard_of}))
    out = tmp_path / "out"
    assert run(["convert", str(base), "-o", str(out), "--action-dim", str(ACTIONS)]) == 0
    assert not list(out.rglob("*.bin*"))
    kept = {name for name, fate in read_manifest(out).tensors.items() if fate == "kept"}
    after = open_source(out).tensors
    assert kept
    assert all(torch.equal(read_tensor(after[name]), weights[name]) for name in kept)
    assert run(["convert", str(base), "-o", str(out), "--action-dim", str(ACTIONS)]) == 0


@pytest.mark.slow
def test_damage_in_a_file_of_torch_is_found(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights, file = load_file(base / "unet" / PLAIN), base / "unet" / f"{STEM}.bin"
    (base / "unet" / PLAIN).unlink()
    torch.save(weights, file)
    info = read_file(file).tensors["conv_in.weight"]
    data = bytearray(file.read_bytes())
    data[info.start] ^= 1
    file.write_bytes(data)
    line = refused(capsys, "convert", base, "-o", tmp_path / "out", "--action-dim", 3)
    assert "do not match the file's own checksum" in line
    assert not (tmp_path / "out").exists()


def test_a_choice_is_recorded_and_verify_follows_it(tiny_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    shutil.copytree(base / "unet", base / "unet_ema")
    average = base / "unet_ema" / PLAIN
    save_file({n: t * 2 for n, t in load_file(average).items()}, average)
    out = tmp_path / "out"
    assert run(["convert", str(base), "-o", str(out), "--action-dim", "3", "--ema"]) == 0
    manifest = read_manifest(out)
    assert manifest.choice == Choice(ema=True)
    assert not (out / "unet_ema").exists()
    name = next(name for name, fate in manifest.tensors.items() if fate == "kept")
    chosen, converted = open_source(base, manifest.choice), open_source(out)
    assert chosen.component == "unet"
    assert torch.equal(read_tensor(converted.tensors[name]), load_file(average)[name])
    assert run(["convert", str(base), "-o", str(out), "--action-dim", "3", "--no-ema"]) == 2
    assert run(["verify", str(out), "--base", str(base), "--budget", "0"]) == 3
    assert run(["plan", str(base), "-o", str(tmp_path / "plan.yaml")]) == 0  # it needs the config only


def test_the_autoencoder_is_found_alike(tiny_base: Path, tmp_path: Path) -> None:
    """A variant, what torch.save wrote, and names of attention from before diffusers 0.17."""
    expected = open_vae(tiny_base).autoencoder.state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for kind in ("fp16.safetensors", "bin"):
        base = shutil.copytree(tiny_base, tmp_path / kind)
        weights = load_file(base / "vae" / PLAIN)
        (base / "vae" / PLAIN).unlink()
        if kind == "bin":
            for new, former in old.items():
                weights = {n.replace(f".{new}.", f".{former}."): t for n, t in weights.items()}
            torch.save(weights, base / "vae" / f"{STEM}.bin")
        else:
            save_file(weights, base / "vae" / f"{STEM}.{kind}")
        found = open_vae(base).autoencoder.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
