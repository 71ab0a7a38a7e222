"""What a parquet file says of its sizes in several places must agree: readers trust one or another."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from v2w_convert.data.validation.parquet_layout import check_footer, check_pages
from v2w_convert.data.validation.thrift import BINARY, LIST, STRUCT, Thrift


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A column of 16 numbers, in one page."""
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(16)}), file, use_dictionary=False, compression="none")
    return file


def chunks(file: Path) -> list[Any]:
    metadata = pq.read_metadata(file)
    return [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]


def test_a_whole_file(file: Path) -> None:
    check_footer(file)
    check_pages(file, chunks(file))
    with pytest.raises(ValueError, match="larger than 100 bytes, decompressed"):
        check_pages(file, chunks(file), 100)


@pytest.mark.parametrize("count", [0, 1, 15, 17, 63])
def test_a_page_with_other_values_than_the_footer_says(file: Path, count: int) -> None:
    before, data = chunks(file), file.read_bytes()
    mark = data.index(b"\x2c\x15\x20")  # the page's inner head begins, and its first field is 16
    file.write_bytes(data[: mark + 2] + bytes([2 * count]) + data[mark + 3 :])
    check_footer(file)
    with pytest.raises(ValueError, match=f"'a' has {count or '.*'} values in its pages, 16 in the footer"):
        check_pages(file, before)


def test_a_page_whose_kind_is_not_its_head(file: Path) -> None:
    before, data = chunks(file), bytearray(file.read_bytes())
    data[before[0].data_page_offset + 1] = 4  # a dictionary page, with the head of a data page
    file.write_bytes(data)
    with pytest.raises(ValueError, match="a page of type 2"):
        check_pages(file, before)


@pytest.mark.parametrize(
    ("data", "kind", "found"),
    [
        (b"", STRUCT, "ends early"),
        (b"\x05\x02", BINARY, "ends early"),
        (b"\xff" * 20, BINARY, "more than 64 bits"),
        (b"\x1c" * 50, STRUCT, "nested too deeply"),
        (b"\x25\x00\x05\x00\x00", STRUCT, "not in order"),
        (b"\x05\x02\x00\x05\x02\x00\x00", STRUCT, "not in order"),  # a field twice: the second would count
        (b"\xfc\xff\xff\x7f" + b"\x00" * 200, LIST, "too many entries"),
        (b"\x1d\x00\x00", STRUCT, "a value of type 13"),
    ],
)
def test_what_is_not_thrift(data: bytes, kind: int, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        Thrift(data, 100).skip(kind)
