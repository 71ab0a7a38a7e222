import io
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from numpy.lib import format as npy

from v2w_convert.data.validation.arrays import read_array
from v2w_convert.errors import V2WError


def saved(file: Path, data: bytes, name: str = "a.npy") -> Path:
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file


def head(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_numbers_are_read(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez_compressed(tmp_path / "a.npz", a=numbers, fps=5)
    assert np.array_equal(read_array(tmp_path / "a.npz", "a"), numbers)
    assert read_array(tmp_path / "a.npz", "fps").shape == ()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "EOF"),
        (b"\x93NUMPY\x01\x00", "EOF"),
        (head((10**12,)), "its shape is"),
        (head((2**62, 4)), "its shape is"),
        (head((1,)) + bytes(8), "its shape is"),
        (head((3,)), "its shape is"),
        (b"no array", "magic"),
    ],
)
def test_what_is_not_an_array(data: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(V2WError, match=found):
        read_array(saved(tmp_path / "a.npz", data), "a")


def test_objects_and_other_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(V2WError, match="of type object"):
        read_array(tmp_path / "objects.npz", "a")
    with pytest.raises(V2WError, match="no such array"):
        read_array(tmp_path / "objects.npz", "b")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(V2WError, match="not a zip file"):
        read_array(tmp_path / "plain.npy", "a")


def test_random_faults_are_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, a=np.arange(300, dtype=np.float32))
    whole, refused = file.read_bytes(), 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        file.write_bytes(data[: None if seed % 3 else int(random.integers(len(data)))])
        try:
            assert read_array(file, "a").shape == (300,)
        except V2WError:
            refused += 1
    assert refused > 200
