"""73 to 76, and converted folders that lie: v2w.json, conditions, weights."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.conftest import MODEL, Refused
from v2w_convert.checkpoint.output import sha256

KEPT = "conv_in.weight"
CONDITIONS = "conditions.safetensors"


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    return lambda folder: edit(folder / "v2w.json", change)


def entries(**changed: Any) -> Callable[[Path], Any]:
    return manifest(lambda content: content.update(changed))


def plan(**changed: Any) -> Callable[[Path], Any]:
    return manifest(lambda content: content["plan"].update(changed))


def call(**changed: Any) -> Callable[[Path], Any]:
    return manifest(lambda content: content["plan"]["call"].update(changed))


def text(content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "v2w.json").write_text(content)


def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], Any]:
    def spoil(folder: Path) -> None:
        file = folder / "unet" / MODEL
        tensors = load_file(file)
        save_file({**tensors, KEPT: change(tensors[KEPT])}, file, {"format": "pt"})

    return spoil


def trained(**entries: Any) -> Callable[[Path], Any]:
    return manifest(lambda content: content.update(finetuning={"steps": 1, **entries}))


SHA = "0" * 64
CASES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no object": (text("[]"), ["v2w.json", "not a JSON object"]),
    "nothing": (text(""), ["v2w.json", "not JSON"]),
    "an earlier format": (entries(v2w=1), ["v2w.json has format version 1", "reads version 2"]),
    "a key twice": (text('{"v2w": 1, "v2w": 1}'), ["v2w.json", "'v2w' appears twice"]),
    "nested too deeply": (text('{"a":' + "[" * 50_000 + "]" * 50_000 + "}"), ["v2w.json", "nested"]),
    "200 MB": (lambda folder: os.truncate(folder / "v2w.json", 200_000_000), ["v2w.json", "over the limit"]),
    "a pipe": (lambda folder: ((folder / "v2w.json").unlink(), os.mkfifo(folder / "v2w.json")), ["v2w.json"]),
    "not UTF-8": (lambda folder: (folder / "v2w.json").write_bytes(b'{"\xff": 1}'), ["v2w.json", "UTF-8"]),
    "a field that is unknown": (entries(**{"\x1b[31mevil": 1}), ["v2w.json", "x1b[31mevil"]),
    "a field missing": (manifest(lambda content: content.pop("result")), ["v2w.json: result"]),
    "a path above": (entries(result={"../../etc/passwd": SHA}), ["v2w.json: result"]),
    "an absolute path": (entries(result={"/etc/passwd": SHA}), ["v2w.json: result"]),
    "a path with a NUL": (entries(result={"a\0": SHA}), ["v2w.json: result"]),
    "a hash that is none": (entries(result={MODEL: "x"}), ["v2w.json: result"]),
    "a source without a name": (entries(source={"files": {}}), ["v2w.json: source.name"]),
    "a source of a list": (entries(source=[]), ["v2w.json: source"]),
    "a component above": (entries(component="../unet"), ["v2w.json: component"]),
    "a stage that is none": (entries(stage="trusted"), ["v2w.json: stage"]),
    "no actions": (entries(action_dim=0), ["v2w.json: action_dim"]),
    "a trillion actions": (entries(action_dim=10**12), ["v2w.json: action_dim"]),
    "actions as text": (entries(action_dim="three"), ["v2w.json: action_dim"]),
    "a seed below zero": (entries(seed=-1), ["v2w.json: seed"]),
    "a fate that is none": (manifest(lambda content: content["tensors"].update({KEPT: "lost"})), ["v2w.json: tensors"]),
    "weights of whole numbers": (weights(torch.Tensor.long), [KEPT, "I64"]),
    "weights that are complex": (weights(lambda x: x.to(torch.complex64)), [KEPT, "C64"]),
    "weights of truth": (weights(torch.Tensor.bool), [KEPT, "BOOL"]),
    "clips of a billion frames": (trained(settings={"frames": 10**9}), ["v2w.json: finetuning"]),
    "clips of frames as text": (trained(settings={"frames": "six"}), ["v2w.json: finetuning"]),
    "conditions that are a list": (trained(conditions=["text"]), ["v2w.json: finetuning"]),
    "conditions made of nothing known": (trained(conditions={"text": "evil"}), ["v2w.json: finetuning"]),
    "a training that is none": (manifest(lambda content: content.update(finetuning={})), ["v2w.json: finetuning"]),
    "a loss that is NaN": (trained(loss=float("nan")), ["v2w.json", "NaN"]),
    "no plan": (entries(plan={}), ["the plan in", "name"]),
    "a plan that is a list": (entries(plan=[]), ["v2w.json: plan"]),
    "a plan for another class": (plan(base="WanTransformer3DModel"), ["the plan is for WanTransformer3DModel"]),
    "a plan for a class by path": (plan(base="os.system"), ["the plan in", "base"]),
    "a plan without operations": (plan(operations=[]), ["the plan in", "operations"]),
    "a plan for other modules": (plan(operations=[{"action": {"at": "nowhere"}}]), ["matches nothing"]),
    "a plan of a bad pattern": (plan(operations=[{"action": {"at": "**a" * 30}}]), ["more than 4"]),
    "a plan for blocks without end": (plan(frames_per_block=10**9), ["frames_per_block"]),
    "a plan with a tiny model that is not": (plan(tiny={"block_out_channels": [10**6, 10**6]}), ["tiny"]),
    "a call that does not work": (call(noise_level={"argument": "nonsense"}), ["call", "nonsense"]),
    "a call of trillions": (call(token_counts={"n": 10**12}), ["call.conditions.text"]),
    "noise of trillions": (plan(noise={"kind": "ddpm", "prediction": "v", "scheduler": {"num_train_timesteps": 10**12}}), ["noise", "num_train_timesteps"]),
    "no conditions": (lambda folder: (folder / CONDITIONS).unlink(), [CONDITIONS, "no such file"]),
    "conditions that are none": (lambda folder: (folder / CONDITIONS).write_bytes(bytes(99)), [CONDITIONS]),
    "conditions of another name": (lambda folder: save_file({"evil": torch.ones(1)}, folder / CONDITIONS), [CONDITIONS, "evil"]),
    "conditions of another shape": (lambda folder: save_file({"added_time_ids": torch.ones(4)}, folder / CONDITIONS), [CONDITIONS, "added_time_ids"]),
    "conditions that are NaN": (lambda folder: save_file({"added_time_ids": torch.full((3,), torch.nan)}, folder / CONDITIONS), [CONDITIONS, "added_time_ids"]),
    "conditions that are complex": (lambda folder: save_file({"added_time_ids": torch.ones(3, dtype=torch.complex64)}, folder / CONDITIONS), [CONDITIONS, "added_time_ids"]),
    "a config of another class": (lambda folder: edit(folder / "unet/config.json", lambda c: c.update(_class_name="WanTransformer3DModel")), ["WanTransformer3DModel"]),
    "a config of a trillion layers": (lambda folder: edit(folder / "unet/config.json", lambda c: c.update(layers_per_block=10**12)), ["config.json"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_spoiled_converted_folder_is_refused(case: str, converted: Path, refused: Refused) -> None:
    change, mentions = CASES[case]
    change(converted)
    refused("verify", converted, mentions=[str(converted), *mentions])


def test_a_false_manifest_is_not_taken_for_a_finished_conversion(
    converted: Path, tiny_base: Path, refused: Refused
) -> None:
    arguments = ("convert", tiny_base, "-o", converted, "--action-dim", 3)
    edit(converted / "v2w.json", lambda content: content["source"]["files"].update({MODEL: SHA}))
    refused(*arguments, mentions=["another plan, source or option"])
    edit(converted / "v2w.json", lambda content: content["result"].update({"../base/config.json": SHA}))
    refused(*arguments, mentions=["v2w.json: result"])


GIVEN: dict[str, Callable[[Path], Any]] = {
    "no file": lambda file: None,
    "a pipe": lambda file: os.mkfifo(file),
    "no header": lambda file: file.write_bytes(bytes(3)),
    "another name": lambda file: save_file({"\u0430nchor": torch.ones(1)}, file),
    "another shape": lambda file: save_file({"text": torch.ones(1, 1, 16)}, file),
    "NaN": lambda file: save_file({"added_time_ids": torch.full((3,), torch.nan)}, file),
    "a type that torch lacks": lambda file: file.write_bytes(
        struct.pack("<Q", 67)
        + b'{"added_time_ids":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}} '
        + bytes(2)
    ),
    "a pickle": lambda file: torch.save({"added_time_ids": torch.ones(3)}, file),
}


@pytest.mark.parametrize("case", GIVEN)
def test_malformed_conditions_are_refused(case: str, plain: Path, refused: Refused) -> None:
    file = plain.parent / "given.safetensors"
    GIVEN[case](file)
    out = plain.parent / "out"
    refused("convert", plain, "-o", out, "--action-dim", 3, "--conditions", file, mentions=[str(file)])


def changed(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """An untouched tensor, and the manifest's hash with it."""
    file = folder / "unet" / MODEL
    tensors = load_file(file)
    save_file({**tensors, KEPT: change(tensors[KEPT])}, file, {"format": "pt"})
    edit(folder / "v2w.json", lambda content: content["result"].update({f"unet/{MODEL}": sha256(file)}))


def next_number(tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(torch.int16).view(-1)[0] ^= 1
    return tensor


@pytest.mark.slow
@pytest.mark.parametrize("change", [next_number, torch.Tensor.float], ids=["73 one bit", "74 another dtype"])
def test_a_changed_kept_tensor_fails_verify(
    change: Callable[[torch.Tensor], torch.Tensor],
    converted: Path,
    tiny_base: Path,
    converts: Callable[..., str],
) -> None:
    """Not refused but found: exit 1, with the tensor's name. 75, a leak, is `test_verify_names_one_broken_site`'s."""
    changed(converted, change)
    output = converts("verify", converted, "--base", tiny_base, code=1)
    assert f"FAILS: Every kept tensor equals the base's, bit for bit: {KEPT}" in output


@pytest.mark.slow
def test_76_another_base_fails_verify(
    converted: Path, tiny_base: Path, home: Path, converts: Callable[..., str]
) -> None:
    """Found: exit 1. A base of another class cannot be compared at all."""
    import shutil

    other = shutil.copytree(tiny_base, home / "other")
    file = other / "unet" / MODEL
    save_file({**load_file(file), KEPT: torch.zeros_like(load_file(file)[KEPT])}, file, {"format": "pt"})
    assert "FAILS: The base is the one that was converted" in converts(
        "verify", converted, "--base", other, code=1
    )
