import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from v2w_convert.checkpoint.open import open_source
from v2w_convert.cli import run
from v2w_convert.errors import V2WError
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.conditions import stored_conditions
from v2w_convert.surgery.load import load


def test_the_users_own_prompt_is_used_where_the_caller_passes_none(tiny_base: Path, tmp_path: Path) -> None:
    prompt = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    save_file({"text": prompt}, tmp_path / "prompt.safetensors")
    out = tmp_path / "out"
    arguments = [
        "convert",
        tiny_base,
        "-o",
        out,
        "--action-dim",
        3,
        "--conditions",
        tmp_path / "prompt.safetensors",
    ]
    assert run([str(argument) for argument in arguments]) == 0
    assert run([str(argument) for argument in arguments]) == 0  # converted already
    assert torch.equal(load_file(out / "conditions.safetensors")["text"], prompt)
    assert run([str(argument) for argument in arguments[:-2]]) == 2  # the output has other conditions

    world = load(out, dtype=torch.float32)
    latents, level = torch.randn(1, 2, 4, 8, 8), torch.full((1, 2), 500.0)
    given = world(latents, level, text=prompt[None])
    assert torch.equal(world(latents, level), given)
    assert not torch.equal(world(latents, level, text=torch.zeros(1, 1, 16)), given)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"prompt": torch.zeros(1, 16)}, "prompt is not a condition of this family"),
        ({"image_latents": torch.zeros(4, 8, 8)}, "image_latents is not a condition"),
        ({"text": torch.zeros(1, 15)}, r"text is \(1, 15\), not \(1, 16\)"),
        ({"added_time_ids": torch.full((3,), torch.nan)}, "added_time_ids has values that are not finite"),
    ],
)
def test_a_file_with_unknown_or_misshapen_conditions_is_refused(
    tensors: dict[str, torch.Tensor], expected: str, tiny_base: Path, tmp_path: Path
) -> None:
    source = open_source(tiny_base)
    resolved = resolve(plan_for(source.class_name), source.config, source.scheduler)
    save_file(tensors, tmp_path / "given.safetensors")
    with pytest.raises(V2WError, match=expected):
        stored_conditions(resolved, tmp_path / "given.safetensors")
    with pytest.raises(V2WError, match="no such file"):
        stored_conditions(resolved, tmp_path / "absent.safetensors")


def test_a_condition_that_would_take_gigabytes_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    source = open_source(tiny_base)
    resolved = resolve(plan_for(source.class_name), source.config, source.scheduler)
    file, size = tmp_path / "given.safetensors", 10**9 * 16 * 4  # a sparse file, which takes nothing
    entry = {"text": {"dtype": "F32", "shape": [10**9, 16], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(file, 8 + len(header) + size)
    with pytest.raises(V2WError, match="text has 64000000000 bytes, over the limit"):
        stored_conditions(resolved, file)
