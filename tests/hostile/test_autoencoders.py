"""The autoencoder's config and weights, spoiled entry by entry: read or refused, then used or refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.autoencoders import TINY, tiny_autoencoder
from tests.hostile.conftest import MODEL
from tests.hostile.outcomes import REFUSED, documented, of_call, of_command, some, spoiled, violations
from v2w_convert.errors import V2WError
from v2w_convert.world.vae import open_vae, require_frame_size
from v2w_convert.world.vae_kinds import KINDS

QUICK, CLASSES = 1, ["AutoencoderKL", *TINY]
FRAMES = np.zeros((9, 32, 32, 3), np.uint8)
SAMPLES = {"quick": QUICK, "all": 12}


def use(folder: Path) -> None:
    vae = open_vae(folder)
    require_frame_size(vae, FRAMES, "use it")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Callable[[str], Path]:
    """A folder with a tiny autoencoder of a class."""
    root = tmp_path_factory.mktemp("autoencoders")

    def write(name: str) -> Path:
        if not (root / name).exists():
            if name == "AutoencoderKL":
                shutil.copytree(tiny_base / "vae", root / name / "vae")
            else:
                tiny_autoencoder(name).save_pretrained(root / name / "vae")
        return root / name

    return write


@pytest.mark.parametrize("amount", ["quick", pytest.param("all", marks=pytest.mark.slow)])
def test_spoiled_configs_are_read_or_refused(amount: str, written: Callable[[str], Path]) -> None:
    found = {}
    for seed, name in enumerate(CLASSES):
        home = written(name)
        file = home / "vae/config.json"
        whole = file.read_text()
        for case, config in some(spoiled(json.loads(whole)), SAMPLES[amount], seed):
            file.write_text(json.dumps(config))
            found[f"{name} {case}"] = of_call(lambda home=home: use(home))  # type: ignore[misc]
        file.write_text(whole)
    assert not violations(found)
    assert amount == "quick" or documented("autoencoders: configs") == (len(found) + 2 * len(NUMBERS), 0)


NUMBERS: dict[str, Any] = {
    "a scale of 0": {"scaling_factor": 0},
    "a scale of NaN": {"scaling_factor": float("nan")},
    "an infinite scale": {"scaling_factor": 1e999},
    "a scale as text": {"scaling_factor": "1"},
    "a tiny scale": {"scaling_factor": 1e-30},
    "no scale": {"scaling_factor": None},
    "a true scale": {"scaling_factor": True},
    "means as text": {"latents_mean": ["a"] * 4},
    "a mean of 1e39": {"latents_mean": [1e39, 0, 0, 0]},
    "three means": {"latents_mean": [0.0] * 3},
    "means without end": {"latents_mean": [0.0] * 4000},
    "a deviation of 0": {"latents_std": [1.0, 1.0, 1.0, 0.0]},
    "a negative deviation": {"latents_std": [-1.0, 1.0, 1.0, 1.0]},
    "no deviations": {"latents_std": []},
    "a shift that is no number": {"shift_factor": "nan"},
    "another class": {"_class_name": "UNet2DConditionModel"},
    "a class that is a list": {"_class_name": ["AutoencoderKL"]},
    "a class by path": {"_class_name": "os.system"},
    "a pipeline": {"_class_name": "StableDiffusionPipeline"},
    "a quantizer": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    "a quantizer by name": {"quantization_config": "gptq"},
    "code": {"auto_map": {"AutoModel": "evil.Evil"}},
    "a pipeline's code": {"custom_pipeline": "evil"},
    "more channels than the weights": {"block_out_channels": [10**6, 10**6]},
    "a trillion layers": {"layers_per_block": 10**12},
    "a million layers": {"layers_per_block": 10**6},
    "norms of no group": {"norm_num_groups": 0},
    "latents of a million channels": {"latent_channels": 10**6},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "rollout"])
def test_numbers_that_no_latents_can_be_made_with_are_refused(
    command: str, converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    file = converted / "vae/config.json"
    whole = json.loads(file.read_text())
    more = [] if command == "inspect" else ["--data", tiny_data, "-o", tmp_path / "a.png"]
    if command == "inspect":  # of a base: before it is converted
        for name in ("v2w.json", "unet/v2w_added.safetensors"):
            (converted / name).unlink()
        index = json.loads((converted / f"unet/{MODEL}.index.json").read_text())
        kept = {k: v for k, v in index["weight_map"].items() if v == MODEL}
        (converted / f"unet/{MODEL}.index.json").write_text(json.dumps({"weight_map": kept}))
    found = {}
    for case, entries in NUMBERS.items():
        file.write_text(json.dumps(whole | entries))
        found[case], said = of_command(command, converted, *more, codes=(2,))
        assert "vae" in said, (case, said)
    assert not {case: outcome for case, outcome in found.items() if outcome != REFUSED}


@pytest.mark.parametrize("k", [0, -1, 65, 10**7, 2.5, "4", [4]])
def test_a_temporal_factor_that_cannot_be_is_refused(k: Any, written: Callable[[str], Path]) -> None:
    home = written("AutoencoderKLWan")
    file = home / "vae/config.json"
    whole = file.read_text()
    file.write_text(json.dumps(json.loads(whole) | {"scale_factor_temporal": k}))
    try:
        with pytest.raises(V2WError):
            use(home)
    finally:
        file.write_text(whole)


def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], Any]:
    def spoil(vae: Path) -> None:
        tensors = load_file(vae / MODEL)
        tensors["decoder.conv_in.weight"] = change(tensors["decoder.conv_in.weight"])
        save_file(tensors, vae / MODEL)

    return spoil


def replaced(by: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda vae: (shutil.move(vae / MODEL, vae.parents[1] / "whole"), by(vae / MODEL))


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "NaN": (weights(lambda x: x * torch.nan), "decoder.conv_in.weight"),
    "infinity": (weights(lambda x: x / 0), "decoder.conv_in.weight"),
    "what overflows": (weights(lambda x: (x.float() * 0 + 3e38)), "not finite"),
    "another shape": (weights(lambda x: x[:1].clone()), "decoder.conv_in.weight"),
    "complex": (weights(lambda x: x.to(torch.complex64)), ""),
    "a pipe": (replaced(os.mkfifo), "not a regular file"),
    "a folder": (replaced(Path.mkdir), ""),
    "a device": (replaced(lambda file: file.symlink_to("/dev/zero")), ""),
    "a link to elsewhere": (replaced(lambda file: file.symlink_to(file.parents[2] / "whole")), "link"),
    "empty": (replaced(Path.touch), "too few"),
    "garbage": (replaced(lambda file: file.write_bytes(bytes(range(256)))), ""),
    "a pickle": (replaced(lambda file: torch.save({"a": torch.ones(1)}, file)), "torch.save"),
    "a config that is a pipe": (lambda vae: ((vae / "config.json").unlink(), os.mkfifo(vae / "config.json")), "config.json"),
    "a config linked from elsewhere": (lambda vae: ((vae / "config.json").unlink(), (vae / "config.json").symlink_to(__file__)), "config.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_spoiled_autoencoder_stops_a_rollout(
    case: str, converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    spoil, mention = FILES[case]
    spoil(converted / "vae")
    output = tmp_path / "a.png"
    outcome, said = of_command(
        "rollout", converted, "--data", tiny_data, "-o", output, "--frames", 1, "--steps", 1
    )
    assert (outcome, mention in said) == (REFUSED, True), (outcome, said)
    assert not output.exists()


def test_every_class_has_a_case() -> None:
    assert set(CLASSES) == set(KINDS)
    assert documented("autoencoders: files") == (len(FILES), 0)
