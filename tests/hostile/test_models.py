"""48 to 54: configs, and weights that do not belong to them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import CLASS
from tests.hostile.conftest import MODEL, Refused

KERNEL = "up_blocks.1.resnets.0.temporal_res_block.conv2.weight"


def config(**entries: Any) -> Callable[[Path], Any]:
    def change(base: Path) -> None:
        content = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(content | entries))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], Any]:
    return lambda base: save_file(change(load_file(base / MODEL)), base / MODEL)


def kernel(*shape: int) -> Callable[[Path], Any]:
    return weights(lambda tensors: tensors | {KERNEL: torch.zeros(*tensors[KERNEL].shape[:2], *shape)})


BUILT = ["config.json"]
CASES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "48 another architecture": (config(_class_name="UNet2DConditionModel"), ["UNet2DConditionModel"]),
    "48 a causal model": (config(_class_name="WanAnimateTransformer3DModel"), ["WanAnimateTransformer3DModel"]),
    # A plan allows every odd kernel that a class has; this class has three taps.
    "49 a kernel of five taps": (kernel(5, 1, 1), [KERNEL, "(32, 32, 5, 1, 1)"]),
    "49 a kernel of one tap": (kernel(1, 1, 1), [KERNEL]),
    "51 channels that the weights have not": (config(in_channels=12), ["conv_in.weight is (32, 8, 3, 3)", *BUILT]),
    "52 a LoRA": (weights(lambda t: {"unet.a.lora_A.weight": torch.zeros(4, 8)}), ["a LoRA", "merge it"]),
    "53 no class": (config(_class_name=None), ["no _class_name"]),
    "53 an unknown class": (config(_class_name="NoSuchModel"), ["NoSuchModel"]),
    "53 a pipeline's class": (config(_class_name="StableDiffusionPipeline"), ["StableDiffusionPipeline"]),
    "53 a class by path": (config(_class_name="os.system"), ["os.system"]),
    "53 a class with an escape sequence": (config(_class_name="\x1b[31m\u202eevil\n"), ["x1b[31m"]),
    "53 a class of a million letters": (config(_class_name="A" * 1_000_000), ["more characters"]),
    "53 auto_map": (config(auto_map={"AutoModel": "evil.Evil"}), ["auto_map", *BUILT]),
    "53 custom_pipeline": (config(custom_pipeline="evil"), ["custom_pipeline", *BUILT]),
    "53 a trillion layers": (config(layers_per_block=10**12), BUILT),
    "53 a million layers": (config(layers_per_block=10**6), BUILT),
    "53 a trillion blocks of transformers": (config(transformer_layers_per_block=10**12), BUILT),
    "53 a trillion channels": (config(block_out_channels=[10**12, 10**12]), BUILT),
    "53 a million channels": (config(block_out_channels=[10**6, 10**6]), BUILT),
    "53 ten thousand blocks": (config(block_out_channels=[32] * 10_000, down_block_types=["DownBlockSpatioTemporal"] * 10_000, up_block_types=["UpBlockSpatioTemporal"] * 10_000), BUILT),
    "53 negative layers": (config(layers_per_block=-1), []),
    "53 negative channels": (config(block_out_channels=[-32, -64]), BUILT),
    "53 no heads": (config(num_attention_heads=0), BUILT),
    "53 NaN channels": (config(in_channels=math.nan), BUILT),
    "53 infinite channels": (config(in_channels=math.inf), BUILT),
    "53 channels as text": (config(in_channels="eight"), BUILT),
    "53 layers as text": (config(layers_per_block="x" * 100_000), BUILT),
    "53 channels as an object": (config(block_out_channels={"a": 1}), BUILT),
    "53 an unknown block": (config(down_block_types=["\x1b[31mEvil", "Evil"]), BUILT),
    "53 a list of frames": (config(num_frames=[5]), ["num_frames"]),
    "53 a trillion frames": (config(num_frames=10**12), ["num_frames"]),
    "53 negative frames": (config(num_frames=-1), ["window"]),
    "53 frames as text": (config(num_frames="five"), ["num_frames"]),
    "53 a list": (lambda base: (base / "config.json").write_text("[]"), BUILT),
    "53 a key twice": (lambda base: (base / "config.json").write_text('{"_class_name":"A","_class_name":"B"}'), BUILT),
    "53 empty": (lambda base: (base / "config.json").write_text(""), BUILT),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_no_plan_fits_is_refused(case: str, plain: Path, refused: Refused) -> None:
    change, mentions = CASES[case]
    change(plain)
    refused("convert", plain, "-o", plain.parent / "out", "--action-dim", 3, mentions=mentions)


def test_53_code_beside_the_weights_is_never_run(
    plain: Path, refused: Refused, converts: Callable[..., str]
) -> None:
    """Accepted: a file of Python is a file like any other. Only a config that asks for it is refused."""
    (plain / "evil.py").write_text(f"open({str(plain.parent / 'ran')!r}, 'w')\n")
    config(trust_remote_code=True)(plain)  # an entry that the class does not know is of no effect
    converts("inspect", plain)
    config(auto_map={"AutoModel": "evil.Evil"})(plain)
    for command in (["inspect"], ["plan", "-o", plain.parent / "plan.yaml"]):
        refused(command[0], plain, *command[1:], mentions=["auto_map"])
    assert not (plain.parent / "ran").exists()


def test_53_unknown_config_entries_are_not_printed(plain: Path, converts: Callable[..., str]) -> None:
    """Accepted: they mean nothing."""
    config(**{"\x1b[31mevil\u202e": 1})(plain)
    output = converts("inspect", plain)
    assert "evil" not in output


@pytest.mark.parametrize(
    "name", ["StableDiffusionPipeline", "NoSuchModel", "ModelMixin", "__class__", "AutoModel"]
)
def test_53_no_plan_is_drafted_for_a_class_that_is_not_a_model(
    name: str, plain: Path, refused: Refused
) -> None:
    config(_class_name=name)(plain)
    refused("plan", plain, "-o", plain.parent / "plan.yaml", mentions=[name])


SCHEDULERS: dict[str, dict[str, Any]] = {
    "a trillion timesteps": {"num_train_timesteps": 10**12},
    "timesteps as text": {"num_train_timesteps": "many"},
    "negative timesteps": {"num_train_timesteps": -5},
    "an unknown schedule": {"beta_schedule": "\x1b[31mevil"},
    "betas as text": {"beta_start": "low"},
    "a prediction that is a list": {"prediction_type": ["epsilon"]},
    "a scale above 1": {"base_scale": 7.0},
    "a table as text": {"trained_betas": ["a", "b"]},
    "a distilled model's class": {"_class_name": "SCMScheduler"},
    "a class of its own": {"_class_name": "MyScheduler"},
    "no class": {"_class_name": None},
    "another kind of noise": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    "a setting that is not served": {"thresholding": True},
    "levels that are no numbers": {"beta_start": 2.0, "beta_end": 3.0},
}


@pytest.mark.parametrize("case", SCHEDULERS)
def test_53_a_malformed_scheduler_is_refused(case: str, plain: Path, refused: Refused) -> None:
    base = plain.parent / "pipeline"
    (base / "scheduler").mkdir(parents=True)
    plain.rename(base / "unet")
    (base / "model_index.json").write_text("{}")
    content = {"_class_name": "DDIMScheduler", **SCHEDULERS[case]}
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(content))
    refused("convert", base, "-o", base.parent / "out", "--action-dim", 3, mentions=["scheduler_config.json"])


def test_50_a_converted_folder_is_not_converted_again(converted: Path, refused: Refused) -> None:
    for command in (["convert", "--action-dim", 3], ["inspect"], ["plan"]):
        output = ["-o", converted.parent / "p.yaml"] if command[0] == "plan" else []
        output = ["-o", converted.parent / "out"] if command[0] == "convert" else output
        refused(command[0], converted, *output, *command[1:], mentions=["converted already"])


def test_50_a_converted_folder_is_refused_as_a_base(
    converted: Path, tiny_converted: Path, refused: Refused
) -> None:
    refused("verify", converted, "--base", tiny_converted, mentions=["a converted model"])


def test_the_class_of_these_cases_is_served() -> None:
    """So that none of them is refused for its class alone."""
    from v2w_convert.plan.registry import is_known

    assert is_known(CLASS)
