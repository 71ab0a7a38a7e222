"""Checkpoints in the layout that Vid2World released: imported as they are, measured, and repaired."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import v2w_convert
from tests import lvdm
from tests.cli.commands import refused
from tests.families.golden.random_tensors import random_tensor, weights
from tests.tiers import slow_except
from v2w_convert.checkpoint.lvdm import plain_name
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.cli import run
from v2w_convert.families.vid2world import HeightCausalConv2d, Vid2WorldUNet
from v2w_convert.operations.base import clip_context, max_abs_diff
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import install_operations
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.world.model import World

ACTIONS = 3
GOLDEN = Path(__file__).parent / "golden"
NORMS = re.compile(r"temopral_conv\.conv[1234]\.0|init_attn\.0\.norm|\.2\.norm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`released.ckpt`, and that imported into `as-is` and `repaired`."""
    folder = tmp_path_factory.mktemp("vid2world")
    state = lvdm.as_released(lvdm.tiny_released().state_dict())
    assert sum(".conv3d." in name for name in state) == 64
    file = lvdm.save(lvdm.checkpoint(state), folder / "released.ckpt")
    for out, flags in {"as-is": [], "repaired": ["--repair"]}.items():
        assert run(["convert", str(file), "-o", str(folder / out), "--action-dim", str(ACTIONS), *flags]) == 0
    return folder


def measured(
    folder: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, dict[str, Any]]]:
    capsys.readouterr()
    code = run(["verify", str(folder / out), "--base", str(folder / "released.ckpt"), "--json"])
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    return code, {claim["sentence"]: claim for claim in claims}


def test_the_released_layout_is_recognised(folder: Path) -> None:
    source = open_source(folder / "released.ckpt")
    assert source.class_name == "Vid2WorldUNet"
    assert (source.config["action_dim"], source.config["multi_hot"], source.config["default_fs"]) == (
        3,
        False,
        3,
    )
    state = lvdm.tiny_released().state_dict()
    assert source.tensors.keys() == state.keys()
    assert all(torch.equal(read_tensor(info), state[name]) for name, info in source.tensors.items())


def test_as_it_is_every_tensor_is_kept_and_its_actions_are_trained(folder: Path) -> None:
    manifest = read_manifest(folder / "as-is")
    assert set(manifest.tensors.values()) == {"kept"}
    assert (manifest.stage, manifest.finetuning) == ("finetuned", None)
    assert "trained actions" in (folder / "as-is" / "README.md").read_text()
    repaired = read_manifest(folder / "repaired").tensors
    assert [name for name, fate in repaired.items() if fate != "kept"] == ["out.2.weight"]


@pytest.mark.slow
def test_its_norms_see_the_future(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, claims = measured(folder, "as-is", capsys)
    assert code == 1
    broken = {claim["id"] for claim in claims.values() if not claim["ok"]}
    leaks = claims["No site sees a later frame or another clip"]
    assert leaks["measured"] == 40
    assert all(NORMS.search(name) for name in leaks["where"].split(", "))
    assert broken == {
        "causal",
        "causal-modes",
        "causal-stored",
        "action-causal",
        "gradients-causal",
        "sites-causal",
        "stream-by-block",
        "stream-in-chunks",
        "stream-modes",
        "rollout-equal",
        "rollout-history",
        "rollout-guidance",
        "rollout-branch",
    }


@pytest.mark.slow
def test_every_claim_holds_after_the_repair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, claims = measured(folder, "repaired", capsys)
    assert code == 0, [claim for claim in claims.values() if not claim["ok"]]
    unmeasured = {claim["id"] for claim in claims.values() if claim["measured"] is None}
    no_pipeline = {"pipeline-arguments", "pipeline-picture"}  # diffusers has none
    rescaled = {"noise-stepped", "noise-recovered"}  # no scheduler of diffusers has a base_scale
    assert unmeasured == {"actions-no-effect-before-training"} | no_pipeline | rescaled
    assert any(sentence.startswith("central_conv") for sentence in claims)


@pytest.mark.slow
def test_the_repaired_world_passes_without_its_base(folder: Path) -> None:
    assert run(["verify", str(folder / "repaired")]) == 0


@pytest.mark.slow
def test_the_repaired_world_trains(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
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
    assert run([str(a) for a in ["finetune", folder / "repaired", *arguments, *more]]) == 0
    before, after = (open_source(place).tensors for place in (folder / "repaired", tmp_path / "run"))
    for name in ("action_emb_proj.0.weight", "out.2.weight", "time_embed.0.weight"):
        assert not torch.equal(read_tensor(before[name]), read_tensor(after[name])), name
    assert run(["verify", str(tmp_path / "run"), "--base", str(folder / "released.ckpt")]) == 0


# ------------------------------------------------------------------------------------------- what it computes


def inputs(world: World) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "latents": normal(1, 4, 4, 8, 8),
        "noise_level": torch.tensor([[7.0, 500.0, 30.0, 961.0]], dtype=torch.float64),
        "actions": normal(1, 4, ACTIONS),
    }


def exactly(folder: Path) -> World:
    return v2w_convert.load(folder, dtype=torch.float64)


@torch.no_grad()
def test_the_first_frame_gets_the_zero_action_and_a_dropped_action_adds_nothing(folder: Path) -> None:
    world = exactly(folder / "repaired")
    given = inputs(world)
    unet: Any = world.base
    zero = unet.embed_action(torch.zeros(1, ACTIONS, dtype=torch.float64))
    assert zero.any()
    base = world(**given)
    changed = given | {"actions": given["actions"].clone()}
    changed["actions"][:, 0] = 5
    assert torch.equal(world(**changed), base)
    outputs: list[Tensor] = []
    site = world.base.get_submodule("time_embed")
    hook = site.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    dropped = torch.tensor([[False, False, True, False]])
    world(**given, dropped=dropped)
    world(**{name: value for name, value in given.items() if name != "actions"})
    hook.remove()
    embedded = unet.embed_action(given["actions"][0])
    expected = torch.stack([zero[0], embedded[1], torch.zeros_like(embedded[2]), embedded[3]])
    torch.testing.assert_close(outputs[0] - outputs[1], expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("multi_hot", [False, True])
def test_actions_are_embedded_as_they_were_trained(multi_hot: bool) -> None:
    model: Any = lvdm.tiny_released(multi_hot=multi_hot, action_dim=5)
    actions = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0]])
    layers = model.action_emb_proj
    if multi_hot:
        hidden = model.action_emb_preprocess.weight[0] + model.action_emb_preprocess.weight[2]
        expected = layers[2](F.silu(layers[0](hidden[None])))
    else:
        expected = layers[4](F.silu(layers[2](F.silu(layers[0](actions)))))
    torch.testing.assert_close(model.embed_action(actions), expected)


@torch.no_grad()
def test_the_last_convolution_is_causal_along_the_height() -> None:
    torch.manual_seed(0)
    ours = HeightCausalConv2d(4, 2).double()
    pictures = torch.randn(1, 4, 6, 5, dtype=torch.float64)
    # As the paper's code has it: padded on both sides, and the last two rows left out.
    theirs = F.conv2d(pictures, ours.weight, ours.bias, padding=(2, 1))[:, :, :-2]
    torch.testing.assert_close(ours(pictures), theirs, rtol=1e-12, atol=1e-12)
    other = pictures.clone()
    other[:, :, 3] += 1
    assert torch.equal(ours(other)[:, :, :3], ours(pictures)[:, :, :3])


@torch.no_grad()
def test_the_repair_keeps_the_output_for_pictures_affine_in_height(folder: Path) -> None:
    before, after = (exactly(folder / out).base.get_submodule("out.2") for out in ("as-is", "repaired"))
    first, step = torch.randn(2, 1, 32, 1, 5, dtype=torch.float64)
    pictures = first + step * torch.arange(7, dtype=torch.float64)[:, None]
    after.context = clip_context(1, 1)
    size = float(before(pictures).abs().max())
    # The new taps were rounded to float32.
    assert max_abs_diff(after(pictures)[:, :, 2:], before(pictures)[:, :, 2:]) < 1e-6 * size
    assert max_abs_diff(after(pictures)[:, :, :2], before(pictures)[:, :, :2]) > 1e-3 * size


@torch.no_grad()
@pytest.mark.parametrize("numbers", [13, 51])
@pytest.mark.parametrize("dtype", slow_except({torch.float64}, [torch.float32, torch.float64]))
def test_outputs_equal_those_of_the_released_code(numbers: int, dtype: torch.dtype) -> None:
    """As it is imported, of a whole clip; a level, an action and image tokens for each frame."""
    config = {"model_channels": 32, "num_head_channels": 8, "context_dim": 16}
    with torch.device("meta"):
        model = Vid2WorldUNet(action_dim=numbers, multi_hot=numbers == 51, **config).eval()
    released = lvdm.as_released(model.state_dict())
    random_weights = weights({name: tuple(tensor.shape) for name, tensor in released.items()}, numbers)
    model.load_state_dict({plain_name(name): tensor for name, tensor in random_weights.items()}, assign=True)
    resolved = resolve(plan_for("Vid2WorldUNet"), dict(model.config))
    install_operations(resolved, model, numbers)
    world = World(model, resolved, numbers, resolved.call.null_conditions()).to(dtype)

    sample = 3 * random_tensor("input sample", (2, 8, 16, 8, 16), numbers).to(dtype).transpose(1, 2)
    level = (500 * (random_tensor("input level", (2, 16), numbers) + 1)).long().clamp(max=999)
    actions = random_tensor("input action", (2, 16, numbers), numbers).to(dtype)
    mask = random_tensor("input mask", (2, 16), numbers) > -0.5
    mask[:, 0] = True
    found = world(
        sample[:, :, :4],
        level.to(dtype),
        (actions > 0).to(dtype) if numbers == 51 else actions,
        dropped=~mask,
        text=3 * random_tensor("input text", (2, 77, 16), numbers).to(dtype),
        image_embeds=3 * random_tensor("input image", (32, 16, 16), numbers).to(dtype).unflatten(0, (2, 16)),
        image_latents=sample[:, :, 4:],
    )
    expected = load_file(GOLDEN / f"vid2world_{numbers}.safetensors")["output"].transpose(1, 2)
    # It summed in float32; in float64 what differs is its rounding alone.
    assert max_abs_diff(found, expected) <= 1e-5 * float(expected.abs().max())


# --------------------------------------------------------------------------------------------- what is refused


def test_multi_hot_actions_are_recognised(tmp_path: Path) -> None:
    model = lvdm.tiny_released(multi_hot=True, action_dim=51)
    file = lvdm.save(lvdm.checkpoint(lvdm.as_released(model.state_dict())), tmp_path / "csgo.safetensors")
    assert {"action_dim": 51, "multi_hot": True}.items() <= open_source(file).config.items()
    assert run(["convert", str(file), "-o", str(tmp_path / "out"), "--action-dim", "51"]) == 0
    loaded = v2w_convert.load(tmp_path / "out")
    assert isinstance(loaded.base, Vid2WorldUNet)


@pytest.mark.parametrize("lost", ["out.2.conv2d.weight", "action_emb_proj.0.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = lvdm.as_released(lvdm.tiny_released().state_dict())
    del state[lost]
    file = lvdm.save(lvdm.checkpoint(state), tmp_path / "released.ckpt")
    assert f"{lost} is missing" in refused(capsys, "inspect", file)


def test_options_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = folder / "released.ckpt", tmp_path / "out"
    assert "trained with actions of 3 (try: --action-dim 3)" in refused(
        capsys, "convert", file, "-o", out, "--action-dim", 4
    )
    line = refused(capsys, "convert", file, "-o", out, "--action-dim", 3, "--transfer", "masked")
    assert "causal already" in line
    base = lvdm.save(lvdm.checkpoint(lvdm.tiny_denoiser().state_dict()), tmp_path / "base.ckpt")
    assert "no shipped plan repairs" in refused(
        capsys, "convert", base, "-o", out, "--action-dim", 3, "--repair"
    )
    assert "another plan" in refused(
        capsys, "convert", file, "-o", folder / "as-is", "--action-dim", 3, "--repair"
    )
    assert run(["convert", str(file), "-o", str(folder / "repaired"), "--action-dim", "3", "--repair"]) == 0
    assert not out.exists()
