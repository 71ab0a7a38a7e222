"""Pictures as bytes: PNG or JPEG, of a size that is known before they are decoded; and columns of them in parquet."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from v2w_convert.data.validation.parquet_layout import check_footer, check_pages
from v2w_convert.data.validation.tables import naming
from v2w_convert.errors import V2WError, one_line

FORMATS = ("PNG", "JPEG")
COLOURS = (
    "RGB",
    "RGBA",
    "L",
    "LA",
    "P",
    "1",
    "CMYK",
    "YCbCr",
)  # of Pillow's modes; others are depths or of 16 bits
FAULTS = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, IndexError, KeyError,
          AttributeError, TypeError, RuntimeError, MemoryError, OverflowError, Image.DecompressionBombError)  # fmt: skip


def decode_picture(data: bytes, asked: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A picture (height, width, 3) in RGB.

    Args:
        data: A PNG or JPEG file's bytes.
        asked: What is being done, for the error message.
        size: Height and width that it is said to have; None: any that `videos.check_size` allows.

    Raises:
        V2WError: It is something else, damaged, of another size, or sees distances.
    """
    from v2w_convert.data.validation.videos import check_size

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_size(picture.height, picture.width)
            if size is not None and (picture.height, picture.width) != size:
                raise ValueError(f"it is {picture.height} x {picture.width}, not {size[0]} x {size[1]}")
            if picture.mode not in COLOURS:
                raise ValueError(f"its pixels are no colours of 8 bits but {picture.mode}")
            return np.asarray(picture.convert("RGB"), np.uint8)
    except FAULTS as error:
        raise V2WError(asked, f"no picture that can be read ({one_line(error)})", "record it again") from None


class PictureColumn:
    """A column of a parquet file whose entries are files of pictures, as the library `datasets` stores them.

    One row group is in memory at a time.
    """

    def __init__(self, file: Path, name: str):
        """Check the footer and the column's type.

        Raises:
            V2WError: Naming the file and the column.
        """
        self.file, self.name = file, name
        self._group, self._entries = -1, pa.chunked_array([], pa.binary())
        with naming(file):
            check_footer(file)
            with file.open("rb") as stream, pq.ParquetFile(stream) as parquet:
                schema, metadata = parquet.schema_arrow, parquet.metadata
                if (count := schema.names.count(name)) != 1:
                    raise ValueError(f"it has {count or 'no'} columns {name!r}")
                type_ = schema.field(name).type
                if not pa.types.is_struct(type_) or type_.get_field_index("bytes") < 0:
                    raise ValueError(f"column {name!r} is of type {type_!s:.100}, not pictures")
                counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._ends = np.cumsum(counts)

    def read(self, places: NDArray[np.int64]) -> Iterator[bytes]:
        """The files in these rows.

        Raises:
            V2WError: It is damaged, too large, or a row holds no picture.
        """
        for place in places.tolist():
            group = int(np.searchsorted(self._ends, place, "right"))
            if group != self._group:
                self._entries, self._group = self._read(group), group
            start = int(self._ends[group - 1]) if group else 0
            found = self._entries[place - start].as_py()
            if not isinstance(found, bytes):
                lacks = f"column {self.name!r}, row {place}: no picture in it, at most a path to one"
                raise V2WError(f"read {self.file}", lacks, "push or save the data set with its pictures")
            yield found

    def forget(self) -> None:
        """Free the memory."""
        self._group, self._entries = -1, pa.chunked_array([], pa.binary())

    def _read(self, group: int) -> pa.ChunkedArray:
        leaf = f"{self.name}.bytes"
        with naming(self.file), self.file.open("rb") as stream, pq.ParquetFile(stream) as parquet:
            if group >= parquet.metadata.num_row_groups:
                raise ValueError("it changed while it was read")
            head = parquet.metadata.row_group(group)
            chunks = [head.column(i) for i in range(head.num_columns)]
            chunks = [chunk for chunk in chunks if chunk.path_in_schema == leaf]
            if any(chunk.num_values != head.num_rows for chunk in chunks):
                raise ValueError(f"column {self.name!r} has other than one picture a row")
            check_pages(self.file, chunks)
            table = parquet.read_row_group(group, columns=[leaf], use_threads=False)
            found = pa.chunked_array(
                [chunk.field("bytes") for chunk in table[self.name].chunks],
                table.schema.field(self.name).type.field("bytes").type,
            )
            if len(found) != head.num_rows:
                raise ValueError(f"{len(found)} rows were read, {head.num_rows} are said to be there")
            return found
