"""1 to 22: safetensors files."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.conftest import MODEL, Refused
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import read_tensor

KEY = "up_blocks.1.resnets.0.temporal_res_block.conv2.weight"  # of a causal convolution
KEPT = "conv_in.weight"


def entry(dtype: str = "U8", shape: tuple[int, ...] = (4,), start: int = 0, stop: int = 4) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def pack(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def many(count: int) -> bytes:
    return (
        b"{"
        + b",".join(b'"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(count))
        + b"}"
    )


CASES: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "1 no byte": (lambda: b"", ["0 bytes"]),
    "2 seven bytes": (lambda: bytes(7), ["7 bytes"]),
    "3 a header of 2^63 bytes": (lambda: struct.pack("<Q", 2**63) + b"{}", ["over the limit"]),
    "4 a header longer than the file": (lambda: struct.pack("<Q", 99) + b"{}", ["header of 99 bytes"]),
    "5 a header that is a list": (lambda: pack(b"[1,2]"), ["does not start with {"]),
    "6 a header that is not UTF-8": (lambda: pack(b'{"\xff":1}'), ["not UTF-8"]),
    "7 a key twice, same range": (
        lambda: pack(b'{"k":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"k":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', bytes(4)),
        ["'k' appears twice"],
    ),
    "8 ranges that overlap": (lambda: pack({"a": entry(), "k": entry(start=3, stop=7)}, bytes(7)), ["k: starts"]),
    "9 a hole": (lambda: pack({"a": entry(), "k": entry(start=5, stop=9)}, bytes(9)), ["k: starts"]),
    "10 a zip behind the tensors": (lambda: pack({"a": entry()}, bytes(4) + b"PK\5\6" + bytes(18)), ["end at byte"]),
    "11 the last byte cut": (lambda: pack({"a": entry()}, bytes(3)), ["end at byte"]),
    "12 a shape of 2^33 by 2^33": (lambda: pack({"k": entry(shape=(2**33, 2**33))}, bytes(4)), ["k: shape", "too large"]),
    "13 a shape of other size": (lambda: pack({"k": entry(shape=(5,))}, bytes(4)), ["k: U8", "40 bits"]),
    "14 800,000 tensors": (lambda: pack(many(800_000)), ["over the limit"]),
    "14 13,000 tensors": (lambda: pack(many(13_000)), ["13000 tensors, over the limit of 12000"]),
    "14 a million numbers": (lambda: pack(b'{"k":[' + b"1," * 1_000_000 + b"1]}"), ["JSON values"]),
    "15 90 MB of metadata": (lambda: pack({"__metadata__": {"a": "x" * 90_000_000}}), ["over the limit"]),
    "15 metadata of numbers": (lambda: pack({"__metadata__": {"a": 1}}), ["__metadata__"]),
    "16 an escape sequence in a key": (lambda: pack({"\x1b[31mk": entry()}, bytes(4)), ["x1b[31mk"]),
    "16 a newline in a key": (lambda: pack({"a\nv2w: fine": entry()}, bytes(4)), ["not a tensor name"]),
    "16 a turned text direction in a key": (lambda: pack({"a\u202eb": entry()}, bytes(4)), ["u202e"]),
    "16 a key of a million letters": (lambda: pack({"k" * 1_000_000: entry()}, bytes(4)), ["kkk...kkk", "not a tensor name"]),
    "16 an unknown dtype with an escape": (lambda: pack({"k": entry("\x1b[2J")}, bytes(4)), ["k: unknown dtype"]),
    "17 an empty key": (lambda: pack({"": entry()}, bytes(4)), ["'': not a tensor name"]),
    "17 a NUL in a key": (lambda: pack({"a\0": entry()}, bytes(4)), ["not a tensor name"]),
    "18 a key in two spellings": (
        lambda: pack({"\u00e9": entry(), "e\u0301": entry(start=4, stop=8)}, bytes(8)),
        ["NFC"],
    ),
    "19 nine axes": (lambda: pack({"k": entry(shape=(4, *[1] * 8))}, bytes(4)), ["k: shape", "at most 8"]),
    "19 a thousand axes": (lambda: pack({"k": entry(shape=(4, *[1] * 999))}, bytes(4)), ["k: shape"]),
    "19 nested too deeply": (lambda: pack(b'{"k":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), ["nested too deeply"]),
    "19 a number of 5,000 digits": (lambda: pack(b'{"k":' + b"9" * 5000 + b"}"), ["a number of 5000 digits"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_weight_file_is_refused(case: str, plain: Path, refused: Refused) -> None:
    make, mentions = CASES[case]
    (plain / MODEL).write_bytes(make())
    refused("convert", plain, "-o", plain.parent / "out", "--action-dim", 3, mentions=[MODEL, *mentions])


@pytest.mark.parametrize("command", ["inspect", "plan", "verify"])
def test_other_commands_refuse_a_malformed_weight_file(
    command: str, plain: Path, refused: Refused, converted: Path
) -> None:
    (plain / MODEL).write_bytes(pack({"k": entry(shape=(5,))}, bytes(4)))
    if command == "verify":
        refused("verify", converted, "--base", plain, mentions=[MODEL, "k: U8"])
        (converted / "unet" / MODEL).write_bytes((plain / MODEL).read_bytes())
        refused("verify", converted, mentions=[MODEL, "k: U8"])
    else:
        refused(
            command,
            plain,
            *(["-o", plain.parent / "p.yaml"] if command == "plan" else []),
            mentions=["k: U8"],
        )


@pytest.mark.parametrize("dtype", ["I64", "F8_E4M3", "C64", "F4", "U8"])
def test_20_a_dtype_that_surgery_cannot_compute_with_is_refused(
    dtype: str, plain: Path, refused: Refused
) -> None:
    """A transformed key; the bytes are as many as its shape takes in that dtype."""
    retyped(plain / MODEL, KEY, dtype)
    refused("convert", plain, "-o", plain.parent / "out", "--action-dim", 3, mentions=[KEY, "dtype", dtype])


def retyped(file: Path, key: str, dtype: str) -> None:
    """The same file, with zeros of another dtype at one key."""
    bits = {"I64": 64, "F8_E4M3": 8, "C64": 64, "F4": 4, "U8": 8}[dtype]
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    parts, position, new = [], 0, {}
    for name, info in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = info["data_offsets"]
        part = data[start:stop] if name != key else bytes(math.prod(info["shape"]) * bits // 8)
        kind = info["dtype"] if name != key else dtype
        new[name] = {**info, "dtype": kind, "data_offsets": [position, position + len(part)]}
        position += len(part)
        parts.append(part)
    file.write_bytes(pack(new, b"".join(parts)))


@pytest.mark.parametrize("dtype", ["I64", "F8_E4M3"])
def test_20_an_untouched_key_of_any_dtype_is_copied(
    dtype: str, plain: Path, converts: Callable[..., str]
) -> None:
    """Accepted: a tensor that surgery does not touch keeps its bytes, whatever they mean."""
    retyped(plain / MODEL, KEPT, dtype)
    out = plain.parent / "out"
    converts("convert", plain, "-o", out, "--action-dim", 3)
    before, after = (read_tensor(open_source(folder).tensors[KEPT]) for folder in (plain, out))
    assert torch.equal(before.view(torch.uint8), after.view(torch.uint8))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_21_a_transferred_kernel_that_is_not_finite_is_refused(
    value: float, plain: Path, refused: Refused
) -> None:
    spoil(plain / MODEL, KEY, value)
    refused(
        "convert",
        plain,
        "-o",
        plain.parent / "out",
        "--action-dim",
        3,
        mentions=[str(plain), KEY, "not finite"],
    )


def test_21_an_untouched_nan_is_copied(plain: Path, converts: Callable[..., str]) -> None:
    """Accepted: untouched bytes are copied, not read; looking for NaN would cost more than copying them."""
    spoil(plain / MODEL, KEPT, math.nan)
    out = plain.parent / "out"
    converts("convert", plain, "-o", out, "--action-dim", 3)
    assert bool(read_tensor(open_source(out).tensors[KEPT]).isnan().any())


def test_22_a_kernel_of_zeros_is_converted(plain: Path, converts: Callable[..., str]) -> None:
    """Accepted: it is what a transfer of zeros gives, zeros; bases do come with layers that begin at zero."""
    tensors = load_file(plain / MODEL)
    save_file({**tensors, KEY: torch.zeros_like(tensors[KEY])}, plain / MODEL)
    out = plain.parent / "out"
    converts("convert", plain, "-o", out, "--action-dim", 3)
    assert not bool(read_tensor(open_source(out).tensors[KEY]).any())


def spoil(file: Path, key: str, value: float) -> None:
    tensors = load_file(file)
    tensors[key].view(-1)[-1] = value
    save_file(tensors, file)
