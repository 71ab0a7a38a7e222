import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ACTIONS, tiny_unet
from v2w_convert.checkpoint.open import open_source
from v2w_convert.errors import V2WError
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.call import call_base
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.surgery.convert import convert
from v2w_convert.surgery.load import load
from v2w_convert.surgery.manifest import read_manifest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("transfer", ["masked", "extrapolative", "shift"])
@pytest.mark.parametrize("shard", ["10GB", "300KB"])
def test_surgery_on_files_and_on_a_live_model_gives_the_same_tensors(
    tmp_path: Path, dtype: torch.dtype, transfer: str, shard: str
) -> None:
    model = tiny_unet().to(dtype)
    model.save_pretrained(tmp_path / "base", max_shard_size=shard)
    source = open_source(tmp_path / "base")
    resolved = resolve(adjust_plan(plan_for(source.class_name), transfer=transfer), source.config)
    convert(source, resolved, tmp_path / "out", action_dim=ACTIONS, seed=7)
    apply_surgery(resolved, model, ACTIONS, seed=7)
    expected, found = model.state_dict(), load(tmp_path / "out").base.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert tensor.dtype == found[name].dtype == dtype, name
        assert torch.equal(tensor, found[name]), name


def test_the_manifest_lists_every_tensor_as_kept_transferred_or_added(
    tiny_base: Path, tiny_converted: Path
) -> None:
    manifest = read_manifest(tiny_converted)
    before, after = (open_source(f).tensors for f in (tiny_base, tiny_converted))
    assert manifest.tensors.keys() == after.keys()
    fates = {
        fate: {n for n, f in manifest.tensors.items() if f == fate}
        for fate in ("kept", "transferred", "added")
    }
    assert fates["kept"] | fates["transferred"] == before.keys()
    assert {n.rpartition(".")[0].rpartition(".")[2] for n in fates["transferred"]} == {"conv1", "conv2"}
    assert all(".v2w_action." in n for n in fates["added"])


def test_the_other_files_of_a_pipeline_are_copied(tiny_base: Path, tiny_converted: Path) -> None:
    for file in (
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ):
        assert (tiny_base / file).read_bytes() == (tiny_converted / file).read_bytes()


def test_the_config_warns_readers_in_plain_diffusers(tiny_converted: Path) -> None:
    config = json.loads((tiny_converted / "unet/config.json").read_text())
    assert config["_class_name"] == "UNetSpatioTemporalConditionModel"
    assert "world model" in config["v2w"]


def test_two_conversions_are_equal_byte_for_byte(
    tiny_base: Path, tiny_converted: Path, tmp_path: Path
) -> None:
    source = open_source(tiny_base)
    resolved = resolve(plan_for(source.class_name), source.config, source.scheduler)
    convert(source, resolved, tmp_path / "out", action_dim=ACTIONS)
    for file in sorted(p for p in tiny_converted.rglob("*") if p.is_file()):
        assert file.read_bytes() == (tmp_path / "out" / file.relative_to(tiny_converted)).read_bytes(), file


def test_nothing_is_written_where_the_weights_do_not_fit(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "base"
    shutil.copytree(tiny_base, broken)
    file = broken / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, :4].contiguous()
    tensors["lora.up"] = torch.zeros(2)
    del tensors["conv_out.bias"]
    save_file(tensors, file)
    source = open_source(broken)
    resolved = resolve(plan_for(source.class_name), source.config, source.scheduler)
    with pytest.raises(V2WError) as raised:
        convert(source, resolved, tmp_path / "out", action_dim=ACTIONS)
    for part in ("conv_in.weight is (32, 4, 3, 3)", "lora.up is not part", "conv_out.bias is missing"):
        assert part in str(raised.value)
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_a_world_of_one_frame_equals_the_base(tiny_base: Path, tiny_converted: Path) -> None:
    """Norms, attention and spatial layers are the base's; in one frame a masked kernel has no other input either."""
    world = load(tiny_converted, dtype=torch.float64)
    base = tiny_unet().half().double()
    x = torch.randn(2, 1, 4, 8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    level = torch.tensor([[3.0], [900.0]])
    with torch.no_grad():
        call = world.resolved.call
        nulls = {
            name: torch.stack([condition.null(8, 16)] * 2) for name, condition in call.conditions.items()
        }
        expected = call_base(base, call, x, level[:, 0], nulls)
        torch.testing.assert_close(world(x, level), expected, rtol=0, atol=1e-13)


def test_load_refuses_a_folder_that_does_not_fit_its_manifest(tiny_converted: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "out"
    shutil.copytree(tiny_converted, broken)
    manifest = json.loads((broken / "v2w.json").read_text())
    manifest["action_dim"] = 4
    (broken / "v2w.json").write_text(json.dumps(manifest))
    with pytest.raises(V2WError, match=r"v2w_action.*first.weight is \(128, 3\), not \(128, 4\)"):
        load(broken)
    (broken / "v2w.json").write_text("{}")
    with pytest.raises(V2WError, match="v2w.json has format version None"):
        load(broken)
    (broken / "v2w.json").unlink()
    with pytest.raises(V2WError, match="not a converted model"):
        load(broken)


def test_added_tensors_do_not_depend_on_order(tiny_converted: Path) -> None:
    world = load(tiny_converted)
    resolved, other = world.resolved, copy.deepcopy(tiny_unet(seed=5)).half()
    apply_surgery(resolved, other, ACTIONS, seed=0)
    for name, tensor in world.base.state_dict().items():
        if ".v2w_" in name:
            assert torch.equal(tensor, other.state_dict()[name]), name
