"""A converted model to break, live or on disk."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from v2w_convert.checkpoint.output import sha256
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.engine import phases
from v2w_convert.verification.engine.models import Models, open_models, open_world
from v2w_convert.verification.run import verify
from v2w_convert.world.model import World

Rewrite = Callable[[dict[str, Tensor]], None]


@pytest.fixture
def models(tiny_converted: Path, tiny_base: Path) -> Models:
    return open_models(tiny_converted, tiny_base)


@pytest.fixture
def randomized(tiny_converted: Path) -> World:
    world = open_models(tiny_converted, None).world
    randomize_zero_init(world.base)
    return world


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def failing(
    tiny_converted: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Claim]]:
    """Verify with sites broken as the models are opened: the claims that fail, by their sentences."""

    def run_with(
        *broken: tuple[str, Callable[[Any], None]], folder: Path = tiny_converted
    ) -> dict[str, Claim]:
        def opened(*arguments: Any, **options: Any) -> World:
            world = open_world(*arguments, **options)
            for site, fault in broken:
                fault(world.base.get_submodule(site))
            return world

        monkeypatch.setattr(phases, "open_world", opened)
        return {claim.sentence: claim for claim in verify(folder, tiny_base).claims if not claim.ok}

    return run_with


@pytest.fixture
def rewritten(tiny_converted: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the converted folder with other tensors, and with a manifest that owns up to them."""

    def rewrite(change: Rewrite = lambda tensors: None, **manifest: object) -> Path:
        folder = tmp_path / "rewritten"
        shutil.copytree(tiny_converted, folder)
        file = folder / "v2w.json"
        record = json.loads(file.read_text())
        for name in [n for n in record["result"] if n.startswith("unet/") and n.endswith(".safetensors")]:
            tensors = load_file(folder / name)
            change(tensors)
            save_file(tensors, folder / name, {"format": "pt"})
            record["result"][name] = sha256(folder / name)
        file.write_text(json.dumps(record | manifest))
        return folder

    return rewrite


@pytest.fixture
def finetuned(rewritten: Callable[..., Path]) -> Path:
    """As if trained: every weight a little other, the action's last layer no longer zero."""
    generator = torch.Generator().manual_seed(0)

    def train(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not name.endswith(("center", "scale")):
                tensor += 0.01 * torch.randn(tensor.shape, generator=generator).to(tensor)

    return rewritten(train, stage="finetuned", finetuning={"steps": 1})
