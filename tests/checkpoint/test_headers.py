import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from v2w_convert.checkpoint import headers
from v2w_convert.checkpoint.headers import DTYPES, TensorInfo, read_header
from v2w_convert.errors import V2WError


def entry(dtype="U8", shape=(4,), start=0, stop=4) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def pack(header: dict | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_a_header_written_by_safetensors_is_read(tmp_path):
    import torch
    from safetensors.torch import save_file

    file = tmp_path / "a.safetensors"
    tensors = {
        "weight": torch.zeros(2, 3, dtype=torch.bfloat16),
        "é scalar": torch.tensor(1.0, dtype=torch.float64),
        "empty": torch.zeros(0, 4, dtype=torch.float32),
        "flag": torch.ones(3, dtype=torch.bool),
    }
    save_file(tensors, file, {"format": "pt"})
    infos = read_header(file)
    data = file.stat().st_size - (8 + 0 + 12 + 3)
    assert infos == {
        "é scalar": TensorInfo("F64", (), file, data, data + 8),
        "empty": TensorInfo("F32", (0, 4), file, data + 8, data + 8),
        "weight": TensorInfo("BF16", (2, 3), file, data + 8, data + 20),
        "flag": TensorInfo("BOOL", (3,), file, data + 20, data + 23),
    }
    assert list(infos) == ["é scalar", "empty", "weight", "flag"]


def test_tensors_come_in_the_order_of_their_bytes(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(pack({"late": entry(start=4, stop=8), "early": entry()}, bytes(8)))
    assert list(read_header(file)) == ["early", "late"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_the_width_that_the_library_gives_it(dtype, tmp_path):
    from safetensors import safe_open

    file = tmp_path / "a.safetensors"
    size = DTYPES[dtype].bits  # bytes of eight elements
    file.write_bytes(pack({"a": entry(dtype, (8,), 0, size)}, bytes(size)))
    assert read_header(file)["a"].dtype == dtype
    with safe_open(file, "pt") as library:
        assert library.get_slice("a").get_dtype() == dtype
        if DTYPES[dtype].torch:
            assert str(library.get_tensor("a").dtype) == f"torch.{DTYPES[dtype].torch}"


FAULTS = {
    "no bytes": (b"", "0 bytes, too few"),
    "seven bytes": (bytes(7), "7 bytes, too few"),
    "no header": (bytes(8), "does not start with {"),
    "header of 2^63 bytes": ((2**63).to_bytes(8, "little") + b"{}", "over the limit of 5000000"),
    "header longer than the file": ((3).to_bytes(8, "little") + b"{}", "a header of 3 bytes in a file of 10"),
    "header is a list": (pack(b"[1,2]"), "does not start with {"),
    "header after a space": (pack(b" {}"), "does not start with {"),
    "header is not UTF-8": (pack(b'{"\xff": 1}'), "not UTF-8"),
    "header is UTF-16": (pack("{}".encode("utf-16-le")), "not JSON"),
    "header is not JSON": (pack(b"{oh}"), "not JSON"),
    "key twice": (pack(b'{"a": 1, "a": 1}'), "'a' appears twice"),
    "field twice": (pack(b'{"a": {"dtype": "U8", "dtype": "U8"}}'), "'dtype' appears twice"),
    "metadata twice": (pack(b'{"__metadata__": {}, "__metadata__": {}}'), "__metadata__.* appears twice"),
    "metadata is a list": (pack({"__metadata__": []}), "__metadata__: not an object of strings"),
    "metadata of a number": (pack({"__metadata__": {"a": 1}}), "__metadata__: not an object of strings"),
    "metadata of 6 MB": (pack({"__metadata__": {"a": "x" * 6_000_000}}), "over the limit of 5000000"),
    "an empty name": (pack({"": entry()}, bytes(4)), "'': not a tensor name"),
    "a NUL in a name": (pack({"a\0": entry()}, bytes(4)), "not a tensor name"),
    "a newline in a name": (pack({"a\nb": entry()}, bytes(4)), "not a tensor name"),
    "an escape in a name": (pack({"\x1b[31m": entry()}, bytes(4)), "not a tensor name"),
    "text direction in a name": (pack({"a\u202eb": entry()}, bytes(4)), "not a tensor name"),
    "half a surrogate in a name": (pack(b'{"\\ud800": 1}'), "not a tensor name"),
    "a decomposed accent in a name": (pack({"e\u0301": entry()}, bytes(4)), "not a tensor name"),
    "a name of 1001 letters": (pack({"x" * 1001: entry()}, bytes(4)), "not a tensor name"),
    "an entry that is no object": (pack({"a": 1}), "a: needs exactly dtype, shape and data_offsets"),
    "a field missing": (pack({"a": {"dtype": "U8", "shape": []}}), "a: needs exactly"),
    "a field more": (pack({"a": entry() | {"stride": 1}}, bytes(4)), "a: needs exactly"),
    "an unknown dtype": (pack({"a": entry("F128")}, bytes(4)), "a: unknown dtype 'F128'"),
    "a dtype in small letters": (pack({"a": entry("u8")}, bytes(4)), "a: unknown dtype 'u8'"),
    "a dtype that is a list": (pack({"a": entry() | {"dtype": []}}, bytes(4)), "a: unknown dtype"),
    "a shape that is a number": (pack({"a": entry() | {"shape": 4}}, bytes(4)), "a: shape 4 is not"),
    "a negative size": (pack({"a": entry(shape=(-2, -2))}, bytes(4)), "a: shape .* is not"),
    "a fractional size": (pack({"a": entry(shape=(4.0,))}, bytes(4)), "a: shape .* is not"),
    "a size that is true": (pack({"a": entry(shape=(4, True))}, bytes(4)), "a: shape .* is not"),
    "nine axes": (pack({"a": entry(shape=(4, *[1] * 8))}, bytes(4)), "a: shape .* is not at most 8"),
    "a negative offset": (pack({"a": entry(start=-4, stop=0)}, bytes(4)), "a: data_offsets .* are not two"),
    "fractional offsets": (pack({"a": entry(start=0.0, stop=4.0)}, bytes(4)), "a: data_offsets"),
    "three offsets": (pack({"a": entry() | {"data_offsets": [0, 4, 4]}}, bytes(4)), "a: data_offsets"),
    "offsets reversed": (pack({"a": entry(start=4, stop=0)}, bytes(4)), "a: U8 .* takes 32 bits.* give -32"),
    "a shape of other size": (pack({"a": entry(shape=(5,))}, bytes(4)), "a: U8 .* takes 40 bits.* give 32"),
    "a shape that overflows": (pack({"a": entry(shape=(2**33, 2**33))}, bytes(4)), "a: shape .* too large"),
    "an empty shape that overflows": (
        pack({"a": entry(shape=(0, 2**33, 2**33), stop=0)}),
        "a: shape .* too large",
    ),
    "half a byte": (pack({"a": entry("F4", (3,), 0, 2)}, bytes(2)), "a: F4 .* takes 12 bits"),
    "an overlap": (pack({"a": entry(), "b": entry(start=3, stop=7)}, bytes(7)), "b: starts at byte"),
    "one range for two": (pack({"a": entry(), "b": entry()}, bytes(4)), "b: starts at byte"),
    "a hole": (pack({"a": entry(), "b": entry(start=5, stop=9)}, bytes(9)), "b: starts at byte"),
    "a hole at the start": (pack({"a": entry(start=1, stop=5)}, bytes(5)), "a: starts at byte"),
    "bytes left over": (pack({"a": entry()}, bytes(4) + b"PK\3\4"), "tensors end at byte .* the file at"),
    "the last byte cut": (pack({"a": entry()}, bytes(3)), "tensors end at byte .* the file at"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_file_is_refused(fault, tmp_path):
    content, found = FAULTS[fault]
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(V2WError, match=f"read .*a.safetensors: .*{found}") as error:
        read_header(file)
    assert str(error.value).isprintable() and len(str(error.value)) < 400 + len(str(file))


def test_values_at_the_limits_are_allowed(tmp_path):
    file = tmp_path / "a.safetensors"
    header = {
        "__metadata__": {"a": "x" * 4_990_000},
        "x" * 1000: entry(shape=(4, *[1] * 7)),
        "e\u0301"[:1]: entry(start=4, stop=8),
    }
    file.write_bytes(pack(header, bytes(8)))
    assert len(read_header(file)) == 2
    file.write_bytes(pack({}))
    assert read_header(file) == {}


@pytest.mark.parametrize(
    ("entries", "found"),
    [(6, "6 tensors, over the limit of 5"), (12, "more than 55 JSON values")],
)
def test_more_tensors_than_the_limit_are_refused(entries, found, tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "MAX_TENSORS", 5)
    file = tmp_path / "a.safetensors"
    file.write_bytes(pack({f"t{number}": entry(shape=(0,), stop=0) for number in range(5)}))
    assert len(read_header(file)) == 5
    file.write_bytes(pack({f"t{number}": entry(shape=(0,), stop=0) for number in range(entries)}))
    with pytest.raises(V2WError, match=found):
        read_header(file)


def test_a_path_that_is_not_a_regular_file_is_refused_without_waiting(tmp_path):
    fifo, folder, link = tmp_path / "fifo", tmp_path / "folder", tmp_path / "link"
    os.mkfifo(fifo)
    folder.mkdir()
    link.symlink_to("nowhere")
    for file in (fifo, folder, Path("/dev/zero")):
        with pytest.raises(V2WError, match="not a regular file"):
            read_header(file)
    for file in (link, tmp_path / "none"):
        with pytest.raises(V2WError, match="no such file"):
            read_header(file)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    file.write_bytes(pack({}))

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(V2WError, match=r"read .*a\.safetensors: Input/output error"):
        read_header(file)


def test_files_are_refused_before_torch_is_imported(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(bytes(7))
    code = f"""
import sys
from pathlib import Path
import v2w_convert.checkpoint.source, v2w_convert.checkpoint.output
try:
    v2w_convert.checkpoint.headers.read_header(Path({str(file)!r}))
except v2w_convert.errors.V2WError:
    print(sorted({{"torch", "numpy", "safetensors", "diffusers"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
