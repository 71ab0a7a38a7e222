"""Files in makers' layouts whose shapes, names or config contradict each other are refused, whatever they are."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from tests.checkpoint.originals import original
from tests.hostile.conftest import TRIED, Refused
from v2w_convert.checkpoint.open import open_source
from v2w_convert.errors import V2WError

NAMES = ("wan", "ltx-video", "cosmos")


@pytest.fixture(scope="module")
def headers() -> dict[str, dict[str, list[int]]]:
    """Shapes by name."""
    return {name: {key: list(tensor.shape) for key, tensor in original(name)[1].items()} for name in NAMES}


def write(file: Path, shapes: dict[str, list[int]]) -> Path:
    """Zeros of these shapes, one byte each."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 1
        for length in shape:
            size *= length
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return file


def spoiled(shapes: dict[str, list[int]], chance: random.Random) -> dict[str, list[int]]:
    """One to three faults: a size, a rank, a name."""
    result = {name: list(shape) for name, shape in shapes.items()}
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(list(result))
        shape = result[name]
        match chance.randrange(5):
            case 0 if shape:
                shape[chance.randrange(len(shape))] = chance.choice([0, 1, 3, 7])
            case 1:
                result[name] = shape[:-1]
            case 2:
                result[name] = [*shape, 1][:8]
            case 3:
                del result[name]
            case _:
                result[
                    chance.choice([f"{name}.x", name.replace("0", "10" * 9), "blocks.0.attn1.to_q.weight"])
                ] = shape
    return result


@pytest.mark.parametrize("name", NAMES)
def test_spoiled_headers_are_read_or_refused(name: str, headers: Any, tmp_path: Path) -> None:
    chance = random.Random(name)
    for _ in range(30):
        file = write(tmp_path / "model.safetensors", spoiled(headers[name], chance))
        try:
            open_source(file)
            TRIED["fuzzed: read"] += 1
        except V2WError as error:
            assert str(error).isprintable()
            TRIED["fuzzed: refused"] += 1


@pytest.mark.parametrize(
    "own",
    [
        {"num_heads": 0},
        {"num_heads": -1},
        {"num_heads": 10**30},
        {"num_heads": "2"},
        {"num_heads": True},
        {"num_heads": 3},
        {"eps": "x"},
        {"eps": 1e300},
    ],
    ids=str,
)
def test_a_makers_config_that_does_not_fit_is_refused(
    own: dict[str, Any], home: Path, refused: Refused
) -> None:
    base = home / "base"
    base.mkdir()
    save_file(original("wan")[1], base / "diffusion_pytorch_model.safetensors")
    (base / "config.json").write_text(json.dumps({"_class_name": "WanModel", **own}))
    refused("convert", base, "-o", home / "out", "--action-dim", 3, mentions=[str(base)])


def test_two_tensors_for_one_place_are_refused(home: Path, refused: Refused) -> None:
    _, state = original("wan")
    twin = state["blocks.0.self_attn.q.weight"].clone()
    save_file(state | {"blocks.0.attn1.to_q.weight": twin}, home / "model.safetensors")
    refused("inspect", home / "model.safetensors", mentions=["has no place in diffusers' model"])
