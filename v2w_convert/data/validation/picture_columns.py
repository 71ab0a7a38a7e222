"""Columns of pictures in parquet files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from v2w_convert.data.validation.parquet_layout import check_footer, check_pages
from v2w_convert.data.validation.tables import naming
from v2w_convert.errors import V2WError


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
