"""Checksums against published values, and messages against what they were made of."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.rlds import example, framed, sized, varint
from v2w_convert.data.validation import tfrecord
from v2w_convert.data.validation.crc32c import crc32c
from v2w_convert.data.validation.tfrecord import find_records, parse_example, parse_feature


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_that_are_published(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


def test_long_data_has_the_checksum_of_its_bytes_one_by_one() -> None:
    table = [0] * 256
    for start in range(256):
        crc = start
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table[start] = crc
    random = np.random.default_rng(0)
    for length in (63, 64, 65, 100, 4095, 32768, 32769, 70_001):
        data, crc = random.bytes(length), 0xFFFFFFFF
        for byte in data:
            crc = crc >> 8 ^ table[(crc ^ byte) & 255]
        assert crc32c(data) == crc ^ 0xFFFFFFFF, length


def test_lists_are_read_packed_or_not(tmp_path: Path) -> None:
    whole = np.array([0, 1, -1, 127, 128, 2**40, 2**63 - 1, -(2**63)])
    given = {"a": [b"x", b""], "b": np.array([0.5, -1], np.float32), "c": whole, "d": []}
    content = example(given)
    (tmp_path / "file").write_bytes(framed(content) + framed(b""))
    first, second = find_records(tmp_path / "file")
    assert (first.read(), second.read()) == (content, b"")
    found = {name: parse_feature(value) for name, value in parse_example(content).items()}
    assert [bytes(entry) for entry in found["a"].entries] == [b"x", b""]
    assert found["b"].floats.tolist() == [0.5, -1] and found["c"].ints.tolist() == whole.tolist()
    assert not len(found["d"].numbers) and not found["d"].entries
    loose = b"".join(varint(1 << 3) + varint(int(v) % 2**64) for v in whole)
    assert parse_feature(memoryview(sized(3, loose))).ints.tolist() == whole.tolist()
    floats = b"".join(varint(1 << 3 | 5) + np.float32(v).tobytes() for v in (0.5, -1))
    assert parse_feature(memoryview(sized(2, floats))).floats.tolist() == [0.5, -1]


def test_many_small_fields_are_not_gone_through_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "MAX_FIELDS", 10)
    content = example({"a": [b""] * 11})
    with pytest.raises(ValueError, match="more than 10 entries"):
        parse_feature(parse_example(content)["a"])
