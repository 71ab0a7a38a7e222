"""A checkpoint in one file, from file to world model, as a user has it done."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

import v2w_convert
from tests import lvdm
from tests.cli.commands import refused
from tests.conftest import ACTIONS
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.cli import run
from v2w_convert.surgery.manifest import read_manifest

KINDS = (".ckpt", ".safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model.ckpt` and `model.safetensors`, a tiny model like the one for 512, each converted into `out.ckpt` and so on."""
    folder = tmp_path_factory.mktemp("single")
    tensors = lvdm.checkpoint(lvdm.tiny_denoiser().state_dict())
    for kind in KINDS:
        file = lvdm.save(tensors, folder / f"model{kind}")
        assert (
            run(["convert", str(file), "-o", str(folder / f"out{kind}"), "--action-dim", str(ACTIONS)]) == 0
        )
    return folder


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_inspect_and_plan(
    folder: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / f"model{kind}"
    assert run(["inspect", str(file), "--json"]) == 0
    found = printed(capsys)
    assert (found["plan"], found["class_name"], found["uncovered"]) == (
        "dynamicrafter",
        "DynamiCrafterUNet",
        [],
    )
    assert (found["noise"], found["prediction_type"]) == ("ddpm", "v")
    assert found["window"] == 5
    assert found["parameters"] == sum(t.numel() for t in lvdm.tiny_denoiser().state_dict().values())
    assert any("cond_stage_model" in note and "--conditions" in note for note in found["notes"])
    assert run(["plan", str(file), "-o", str(tmp_path / "plan.yaml")]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_the_files(folder: Path, kind: str) -> None:
    before = lvdm.tiny_denoiser().state_dict()
    out = folder / f"out{kind}"
    fates = read_manifest(out).tensors
    after = open_source(out).tensors
    assert {name for name, fate in fates.items() if fate == "added"} == after.keys() - before.keys()
    kept = [name for name, fate in fates.items() if fate == "kept"]
    assert len(kept) > 200
    for name in kept:
        assert torch.equal(read_tensor(after[name]), before[name]), name


def test_both_kinds_of_file_give_the_same_bytes(folder: Path) -> None:
    one, other = (folder / f"out{kind}" for kind in KINDS)
    files = sorted(file.relative_to(one) for file in one.rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(other) for file in other.rglob("*") if file.is_file())
    assert {"model_index.json", "scheduler", "unet", "vae"} <= {file.parts[0] for file in files}
    for file in files:
        if file.name not in ("v2w.json", "README.md"):  # these name the source
            assert (one / file).read_bytes() == (other / file).read_bytes(), file


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_claim_holds(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = folder / f"model{kind}", folder / f"out{kind}"
    assert run(["verify", str(out), "--base", str(base), "--json"]) == 0
    claims = {claim["sentence"]: claim for claim in printed(capsys)["claims"]}
    for sentence in ("The base is the one that was converted", "The model's config equals the base's"):
        assert claims[sentence]["measured"] == 0
    no_pipeline = {"pipeline-arguments", "pipeline-picture"}  # diffusers has none
    rescaled = {"noise-stepped", "noise-recovered"}  # no scheduler of diffusers has a base_scale
    unmeasured = {claim["id"] for claim in claims.values() if claim["measured"] is None}
    assert unmeasured == no_pipeline | rescaled


@pytest.mark.slow
def test_another_file_is_not_the_base(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = folder / "model.safetensors", folder / "out.ckpt"
    assert run(["verify", str(out), "--base", str(base)]) == 1
    assert "The base is the one that was converted" in capsys.readouterr().err


def test_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", folder / "model.ckpt", "-o", folder / "out.ckpt", "--action-dim"]
    assert run([str(a) for a in [*arguments, ACTIONS]]) == 0
    assert "already converted" in capsys.readouterr().err
    assert "another plan" in refused(capsys, *arguments, ACTIONS + 1)
    assert "another plan" in refused(capsys, "convert", folder / "model.safetensors", *arguments[2:], ACTIONS)


def test_the_world_has_the_files_noise_and_autoencoder(folder: Path) -> None:
    world = v2w_convert.load(folder / "out.ckpt")
    assert world.noise.spec.base_scale == 0.7
    assert world.noise.spec.prediction == "v"
    share = lvdm.schedule()["alphas_cumprod"].double()
    signal, _ = world.noise.alpha_sigma(torch.arange(1, 1000).double())
    torch.testing.assert_close(signal**2, share[1:], rtol=1e-4, atol=1e-6)  # diffusers' table is of float32
    vae = AutoencoderKL.from_pretrained(folder / "out.ckpt" / "vae")
    for name, tensor in lvdm.tiny_autoencoder().state_dict().items():
        assert torch.equal(vae.state_dict()[name], tensor), name


def test_it_trains_and_rolls_out(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = [
        "--data",
        tiny_data,
        "-o",
        tmp_path / "run",
        "--steps",
        1,
        "--batch",
        2,
        "--frames",
        4,
    ]
    more = ["--device", "cpu", "--mixed-precision", "no"]
    assert run([str(a) for a in ["finetune", folder / "out.ckpt", *arguments, *more]]) == 0
    assert read_manifest(tmp_path / "run").stage == "finetuned"
    arguments = ["--data", tiny_data, "-o", tmp_path / "out.png", "--frames", 3, "--steps", 2, "--history", 2]
    assert run([str(a) for a in ["rollout", tmp_path / "run", *arguments]]) == 0


def changed(folder: Path, change: Any) -> Path:
    tensors = lvdm.checkpoint(lvdm.tiny_denoiser().state_dict())
    change(tensors)
    return lvdm.save(tensors, folder / "model.ckpt")


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("model.diffusion_model.init_attn.0.proj_in.weight", "init_attn.0.proj_in.weight is missing"),
        ("model.diffusion_model.input_blocks.0.0.weight", "input_blocks.0.0.weight is missing"),
        ("model.diffusion_model.out.2.bias", "out.2.bias is missing"),
        ("model.diffusion_model.out.2.weight", "out.2.weight is missing"),
        ("first_stage_model.decoder.norm_out.bias", "decoder.conv_norm_out.bias is missing"),
        ("betas", "betas missing"),
        ("alphas_cumprod", "alphas_cumprod missing"),
        ("scale_arr", "neither scale_arr nor alpha"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, lost: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed(tmp_path, lambda tensors: tensors.pop(lost))
    assert said in refused(capsys, "convert", file, "-o", tmp_path / "out", "--action-dim", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_weights_that_are_not_bytes_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "model.diffusion_model.time_embed.0.weight"
    file = changed(tmp_path, lambda tensors: tensors.update({name: tensors[name].T.contiguous().T}))
    assert f"{name} is stored transposed" in refused(capsys, "inspect", file)
    # Of parts that are left aside it does not matter.
    aside = "cond_stage_model.mask"
    file = changed(tmp_path, lambda tensors: tensors.update({aside: torch.eye(4)[:, :2]}))
    assert run(["inspect", str(file)]) == 0


@pytest.mark.parametrize(
    ("table", "value", "said"),
    [
        ("scale_arr", torch.linspace(1, 0.7, 1400), "scale_arr does not fall"),
        ("scale_arr", lvdm.schedule(base_scale=0.5)["scale_arr"], "ends in 0.5"),
        ("betas", torch.rand(10), "not two tables of the same length"),
        ("betas", torch.rand(10, 10), "betas: not a table"),
        ("betas", torch.full((1000,), torch.nan), "not two tables"),
    ],
)
def test_tables_that_tell_nothing(
    tmp_path: Path, table: str, value: torch.Tensor, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed(tmp_path, lambda tensors: tensors.update({table: value}))
    assert said in refused(capsys, "inspect", file)


def test_the_model_for_256(tmp_path: Path) -> None:
    """Image tokens are weighed, epsilon is predicted, nothing is scaled; older names; saved by DeepSpeed; no autoencoder."""
    unet = lvdm.tiny_denoiser(image_scale_learnable=True).state_dict()
    tensors = lvdm.checkpoint(unet, zero_snr=False, base_scale=None, frames=16)
    old = {
        f"_forward_module.{name.replace('fps_embedding', 'framestride_embed')}": tensor
        for name, tensor in tensors.items()
        if not name.startswith("first_stage_model")
    }
    torch.save({"module": old, "dp_world_size": 2}, tmp_path / "mp_rank_00_model_states.pt")
    source = open_source(tmp_path / "mp_rank_00_model_states.pt")
    assert source.tensors.keys() == unet.keys()
    assert source.config["image_scale_learnable"]
    assert (source.config["default_fs"], source.config["temporal_length"]) == (3, 16)
    assert source.scheduler is not None
    assert source.scheduler["prediction_type"] == "epsilon"
    assert "base_scale" not in source.scheduler
    assert source.autoencoder is None
    assert any("first_stage_model" in note for note in source.notes)
    assert any("dp_world_size" in note for note in source.notes)


@pytest.mark.parametrize(("scale", "rate"), [(0.7, 24), (0.3, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_frame_rate_and_the_tables(tmp_path: Path, scale: float, rate: int, dtype: torch.dtype) -> None:
    """Tables in half precision are those of the releases, too."""
    tensors = lvdm.checkpoint(lvdm.tiny_denoiser().state_dict(), base_scale=scale)
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    source = open_source(lvdm.save(tensors, tmp_path / "model.safetensors"))
    assert source.config["default_fs"] == rate
    assert source.scheduler is not None
    assert source.scheduler["base_scale"] == scale
    assert source.scheduler["beta_end"] == 0.012
    assert source.scheduler["rescale_betas_zero_snr"]


def test_another_schedule_is_told_in_full(tmp_path: Path) -> None:
    betas = torch.linspace(1e-4, 0.02, 1000)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["betas"], tensors["alphas_cumprod"] = betas, (1 - betas).cumprod(0)
        tensors["sqrt_recip_alphas_cumprod"] = tensors["alphas_cumprod"] ** -0.5

    source = open_source(changed(tmp_path, change))
    assert source.scheduler is not None
    assert source.scheduler["prediction_type"] == "epsilon"
    assert torch.equal(torch.tensor(source.scheduler["trained_betas"]), betas)


def test_a_file_of_a_folder_names_the_folder(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "inspect", tiny_base / "unet" / "diffusion_pytorch_model.safetensors")
    assert line.endswith(f"(try: {tiny_base})")
    line = refused(capsys, "inspect", tiny_base / "vae" / "diffusion_pytorch_model.safetensors")
    assert line.endswith(f"(try: {tiny_base})")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"GGUF" * 99, b"\x1f\x8b" * 99],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.ckpt").write_bytes(content)
    refused(capsys, "convert", tmp_path / "model.ckpt", "-o", tmp_path / "out", "--action-dim", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    tensors = lvdm.checkpoint(lvdm.tiny_denoiser().state_dict())
    lvdm.save(tensors, tmp_path / "a.safetensors").rename(tmp_path / "model.ckpt")
    lvdm.save(tensors, tmp_path / "b.ckpt").rename(tmp_path / "model.safetensors")
    one, other = (open_source(tmp_path / f"model{kind}") for kind in KINDS)
    assert one.tensors.keys() == other.tensors.keys()
