"""What a parquet file would take when it is read: its footer and the heads of its pages, walked without decoding.

The format: https://github.com/apache/parquet-format. Readers take sizes from several places, and give memory by
each; here they are compared with one another and with limits.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2w_convert.data.validation.thrift import Thrift

MARK = b"PAR1"
MAX_FOOTER = 32 * 2**20  # of 20,000 row groups of ten columns
MAX_ELEMENTS = 4_000_000  # lists' entries in a footer
MAX_CHUNKS = 400_000  # columns × row groups
MAX_DEPTH = 16  # of columns in columns; some libraries crash at thousands
MAX_BYTES = 2**29  # of one file's columns that are read, decompressed
MAX_VALUES = 25_000_000  # two days at 30 frames a second
MAX_PAGES = 1_000_000
DELTA_BYTE_ARRAY = 7  # each text begins as the one before: it can swell without bound
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
HEADS = {5: DATA_PAGE, 7: DICTIONARY_PAGE, 8: DATA_PAGE_V2}  # field of a page's head -> its kind


def check_footer(file: Path) -> None:
    """Check a parquet file's footer.

    Raises:
        ValueError: It is cut, too large, out of order, or nested too deeply.
    """
    size = file.stat().st_size
    if size < 12:
        raise ValueError(f"it has {size} bytes" if size else "it is empty")
    with file.open("rb") as stream:
        begin = stream.read(4)
        stream.seek(-8, 2)
        end = stream.read(8)
        length = int.from_bytes(end[:4], "little")
        if begin != MARK or end[4:] != MARK:
            raise ValueError("it does not begin and end as parquet does")
        if length > min(size - 12, MAX_FOOTER):
            raise ValueError(f"its footer of {length} bytes is larger than the file, or than {MAX_FOOTER}")
        stream.seek(-8 - length, 2)
        footer = stream.read(length)
    walk = Thrift(footer, MAX_ELEMENTS)
    for number, kind in walk.fields():
        if number == 2:
            _check_schema(walk)
        elif number == 4:
            _check_row_groups(walk)
        else:
            walk.skip(kind)


def check_pages(file: Path, chunks: list[Any], most: int = MAX_BYTES) -> None:
    """Check the pages of the columns that are to be read.

    Args:
        file: The parquet file.
        chunks: pyarrow's metadata of each column in each row group.
        most: Bytes that they may have, decompressed.

    Raises:
        ValueError: They would be larger than they say, or than the limits.
    """
    values = sum(chunk.num_values for chunk in chunks)
    if values > MAX_VALUES:
        raise ValueError(f"{values} values in the columns that are read, over the limit of {MAX_VALUES}")
    total = pages = 0
    with file.open("rb") as stream:
        for chunk in chunks:
            found = _pages(stream, chunk)
            total, pages = total + sum(page.size for page in found), pages + len(found)
            if total > most or pages > MAX_PAGES:
                raise ValueError(
                    f"its columns are larger than {most} bytes, decompressed, or {MAX_PAGES} pages"
                )
            count = sum(page.values for page in found if page.kind != DICTIONARY_PAGE)
            if count != chunk.num_values:
                raise ValueError(
                    f"column {chunk.path_in_schema!r} has {count} values in its pages, {chunk.num_values} in the footer"
                )


@dataclass(frozen=True)
class _Page:
    """`size` is decompressed."""

    kind: int
    size: int
    values: int


def _check_schema(walk: Thrift) -> None:
    """The columns, as a tree: each says how many lie in it, and they follow."""
    waiting: list[int] = []
    for _ in range(walk.elements()[0]):
        children = 0
        for number, kind in walk.fields():
            if number == 5:
                children = walk.number()
            else:
                walk.skip(kind)
        while waiting and not waiting[-1]:
            waiting.pop()
        if waiting:
            waiting[-1] -= 1
        if children > 0:
            waiting.append(children)
        if len(waiting) > MAX_DEPTH:
            raise ValueError(f"its columns are nested more than {MAX_DEPTH} deep")


def _check_row_groups(walk: Thrift) -> None:
    chunks = 0
    for _ in range(walk.elements()[0]):
        for number, kind in walk.fields():
            if number != 1:
                walk.skip(kind)
                continue
            count, inner = walk.elements()
            chunks += count
            if chunks > MAX_CHUNKS:
                raise ValueError(f"more than {MAX_CHUNKS} columns in all its row groups")
            for _ in range(count):
                walk.skip(inner)


def _pages(stream: Any, chunk: Any) -> list[_Page]:
    """The pages of a column in a row group, whose bytes are read but not decompressed."""
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    length = chunk.total_compressed_size
    if start < 4 or length < 0:
        raise ValueError(f"column {chunk.path_in_schema!r} lies at byte {start} and has {length} bytes")
    stream.seek(start)
    data = stream.read(length)
    if len(data) < length:
        raise ValueError(f"column {chunk.path_in_schema!r} goes past the end of the file")
    found: list[_Page] = []
    at = seen = 0
    while at < length and seen < chunk.num_values:
        page, at = _page(data, at)
        found.append(page)
        seen += page.values if page.kind != DICTIONARY_PAGE else 0
    return found


def _page(data: bytes, at: int) -> tuple[_Page, int]:
    """The page whose head is at this byte, and where the next one's is."""
    walk = Thrift(data, MAX_ELEMENTS, at)
    sizes = {1: -1, 2: -1, 3: -1}  # kind, decompressed, compressed
    values, inside = 0, -1
    for number, kind in walk.fields():
        if number in sizes:
            sizes[number] = walk.number()
        elif number in HEADS:
            inside = HEADS[number]
            values = _values(walk, 4 if number == 8 else 2)
        else:
            walk.skip(kind)
    kind, size, compressed = sizes.values()
    if kind != inside or min(size, compressed, values) < 0:
        raise ValueError(f"a page of type {kind} of {size} bytes and {values} values")
    return _Page(kind, size, values), walk.at + compressed


def _values(walk: Thrift, encoding: int) -> int:
    """The number of values that a page's inner head says."""
    values = -1
    for number, kind in walk.fields():
        if number == 1:
            values = walk.number()
        elif number == encoding and (found := walk.number()) == DELTA_BYTE_ARRAY:
            raise ValueError(f"a page in the encoding {found}, which texts can swell in")
        elif number != encoding:
            walk.skip(kind)
    return values
