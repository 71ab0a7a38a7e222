"""Low-rank updates: beside peft's own arithmetic, and through the rest of v2w."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from tests.pairs import convert_pair, write_pair
from v2w_convert.checkpoint.open import open_source
from v2w_convert.finetuning.finetune import finetune
from v2w_convert.finetuning.loop import prepare
from v2w_convert.finetuning.lora import DOWN, NAME, UP, updates_in
from v2w_convert.finetuning.save import save_model
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.run import verify
from v2w_convert.world.model import World

peft = pytest.importorskip("peft")
SETTINGS = FinetuneSettings(
    steps=2, batch=2, frames=6, lr=1e-2, warmup=0, train="lora", lora_rank=2, lora_alpha=3.0
)


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(write_squares: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("data") / "one", (8,))


@pytest.fixture(scope="module")
def run(tiny_converted: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained updates."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    finetune(tiny_converted, data, folder, SETTINGS)
    return folder


@torch.no_grad()
def output(world: World) -> Tensor:
    """For a fixed clip, level and actions."""
    generator = torch.Generator().manual_seed(0)
    latents, actions = (torch.randn(1, 6, *shape, generator=generator) for shape in ((4, 8, 8), (3,)))
    result: Tensor = world.eval()(latents, torch.rand(1, 6, generator=generator), actions)
    return result


def updated(folder: Path) -> tuple[World, dict[str, Tensor]]:
    """A world with updates that count, as it is trained, and what is trained."""
    world = load(folder, dtype=torch.float32)
    assert isinstance(world, World)
    training = prepare(world, SETTINGS, Accelerator(cpu=True))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in world.base.named_parameters():
            if name.endswith(UP):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    return world, training.masters


def test_before_training_updates_have_no_effect(tiny_converted: Path) -> None:
    plain = load(tiny_converted, dtype=torch.float32)
    expected = output(plain)  # type: ignore[arg-type]
    prepare(plain, SETTINGS, Accelerator(cpu=True))
    assert torch.equal(output(plain), expected)  # type: ignore[arg-type]
    downs = [p for name, p in plain.base.named_parameters() if name.endswith(DOWN)]
    assert downs and all(p.abs().max() > 0.9 * p.shape[1] ** -0.5 for p in downs)


@pytest.mark.slow
def test_saved_merged_and_by_peft_is_as_trained(tiny_converted: Path, tmp_path: Path) -> None:
    """As trained, unmerged; read from the folder that is saved; merged by peft; loaded by peft from that folder."""
    world, trained = updated(tiny_converted)
    unmerged = output(world)
    plain = output(load(tiny_converted, dtype=torch.float32))  # type: ignore[arg-type]
    assert (unmerged - plain).abs().max() > 0.01
    save_model(
        open_converted(tiny_converted),
        {"": trained},
        {"steps": 1},
        tmp_path,
        {"": updates_in(trained, SETTINGS)},
    )
    read = load(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(output(read), unmerged, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]

    by_peft = load(tiny_converted, dtype=torch.float32)
    own = peft.PeftModel.from_pretrained(by_peft.base, tmp_path / "unet/adapter")
    torch.testing.assert_close(output(by_peft), unmerged, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
    merged = own.merge_and_unload(adapter_names=[NAME]).state_dict()
    for name, tensor in read.base.state_dict().items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-6, atol=1e-6)
    save_model(
        open_converted(tiny_converted),
        {"": trained},
        {"steps": 1},
        tmp_path / "merged",
        {"": updates_in(trained, SETTINGS)},
        merge=True,
    )
    assert not (tmp_path / "merged/unet/adapter").exists()
    merged_here = load(tmp_path / "merged").base.state_dict()
    updated_names = [name for name, info in open_source(tmp_path).tensors.items() if info.update]
    assert updated_names
    for name in updated_names:
        assert torch.equal(merged_here[name], read.base.get_parameter(name).half()), name


@pytest.mark.slow
def test_the_base_stays_and_all_commands_see_the_update(run: Path, tiny_converted: Path) -> None:
    for file in (tiny_converted / "unet").iterdir():
        kept = (run / "unet" / file.name).read_bytes() == file.read_bytes()
        assert kept == (file.name != "v2w_added.safetensors"), file.name
    assert {f"unet/adapter/adapter_{x}" for x in ("config.json", "model.safetensors")} < read_manifest(
        run
    ).result.keys()
    assert open_source(run).has_updates
    report = verify(run)
    assert report.ok, [claim.sentence for claim in report.claims if claim.status == "fails"]


@pytest.mark.slow
def test_training_goes_on_from_the_updated_weights(run: Path, data: Path, tmp_path: Path) -> None:
    """They are merged into the next run's weights, which have no adapter, or one of its own."""
    merged = open_source(run).tensors
    action = FinetuneSettings.model_validate(
        SETTINGS.model_dump() | {"train": "action", "lora_rank": 16, "lora_alpha": None, "steps": 1}
    )
    finetune(run, data, tmp_path / "next", action)
    assert not (tmp_path / "next/unet/adapter").exists()
    before, after = load(run).base.state_dict(), load(tmp_path / "next").base.state_dict()
    assert any(info.update for info in merged.values())
    assert {name for name in before if not torch.equal(before[name], after[name])} < {
        n for n in before if "v2w_" in n
    }
    assert not any("adapter" in path for path in read_manifest(tmp_path / "next").result)


@pytest.mark.slow
def test_two_denoisers(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Each has an adapter of its own; those of one that a next run does not train are merged, too."""
    base = write_pair(tmp_path / "base", vae=tiny_base / "vae")
    converted = convert_pair(base, tmp_path / "converted")
    lora = SETTINGS.model_copy(update={"frames": 4})
    finetune(converted, tiny_data, tmp_path / "lora", lora)
    for part in ("transformer", "transformer_2"):
        assert (tmp_path / "lora" / part / "adapter/adapter_config.json").exists()
        kept = "diffusion_pytorch_model.safetensors"
        assert (tmp_path / "lora" / part / kept).read_bytes() == (converted / part / kept).read_bytes()
    low = FinetuneSettings(steps=1, batch=2, frames=4, warmup=0, expert="low", train="action")
    finetune(tmp_path / "lora", tiny_data, tmp_path / "next", low)
    assert not list((tmp_path / "next").rglob("adapter*"))
    before, after = (load(tmp_path / name).base.state_dict() for name in ("lora", "next"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("low.") and ".v2w_action." in name for name in moved)
    plain = load(converted).base.state_dict()
    assert any(not torch.equal(plain[name], after[name]) for name in plain if name.startswith("high."))
