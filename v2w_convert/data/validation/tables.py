"""Columns of parquet files as arrays, checked: types and sizes before they are read, values after."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from v2w_convert.data.validation.parquet_layout import check_footer, check_pages
from v2w_convert.errors import V2WError, one_line

Kind = Literal["whole", "seconds", "text"] | int
"""Whole numbers from 0; seconds from 0; texts; or so many numbers a row, which are finite in float32."""
MAX_WHOLE = 2**53
MAX_SECONDS = 1e8
MAX_TEXT = 10_000  # characters
MAX_TEXT_BYTES = 2**26  # of a column
TRY = "download or record the data again"


class Table:
    """A parquet file whose footer and columns' types have been checked.

    Attributes:
        file: The file.
        rows: How many rows it says that it has.
        names: Its columns.
    """

    def __init__(self, file: Path, columns: Mapping[str, Kind]):
        """Check the footer, and that these columns are there and of their kind. No row is read.

        Raises:
            V2WError: Naming the file, and the column.
        """
        self.file, self.columns = file, columns
        with naming(file):
            check_footer(file)
            with file.open("rb") as stream, pq.ParquetFile(stream) as parquet:
                self.rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
            self.names: list[str] = schema.names
            for name, kind in columns.items():
                if (count := self.names.count(name)) != 1:
                    raise ValueError(f"it has {count or 'no'} columns {name!r}")
                _check_type(name, schema.field(name).type, kind)

    def read(self) -> dict[str, Any]:
        """The columns: int64 or float64 (rows), float32 (rows, n), or a list of texts.

        Raises:
            V2WError: Naming the file, the column and the row of what is damaged, too large, missing or out of range.
        """
        with naming(self.file):
            texts = [name for name, kind in self.columns.items() if kind == "text"]
            with (
                self.file.open("rb") as stream,  # a stream, since its name may not be UTF-8
                pq.ParquetFile(stream, read_dictionary=texts, pre_buffer=False) as parquet,
            ):
                self._check_sizes(parquet.metadata)
                # pyarrow takes "action" for the beginning of "action.keys", too: what it reads more is not kept.
                table = parquet.read(columns=list(self.columns), use_threads=False).select(list(self.columns))
            if len(table) != self.rows or table.num_columns != len(self.columns):
                raise ValueError(f"{len(table)} rows were read, {self.rows} are said to be there")
            return {name: _values(name, table[name], kind) for name, kind in self.columns.items()}

    def _check_sizes(self, metadata: Any) -> None:
        numbers: list[Any] = []
        texts: list[Any] = []
        if metadata.num_rows != self.rows:
            raise ValueError("it changed while it was read")
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for place in range(group.num_columns):
                chunk = group.column(place)
                path = f"{chunk.path_in_schema}."
                if not any(path.startswith(f"{name}.") for name in self.columns):
                    continue
                name = max((name for name in self.names if path.startswith(f"{name}.")), key=len)
                if name not in self.columns:
                    numbers.append(chunk)
                    continue
                kind = self.columns[name]
                most = group.num_rows * (kind if isinstance(kind, int) else 1)
                if not 0 <= chunk.num_values <= most:
                    raise ValueError(
                        f"column {name!r} has {chunk.num_values} values in {group.num_rows} rows"
                    )
                (texts if kind == "text" else numbers).append(chunk)
        check_pages(self.file, numbers)
        check_pages(self.file, texts, MAX_TEXT_BYTES)


class naming:
    """Turns faults in the block into a V2WError that names the file."""

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, pa.ArrowException | OSError):
            raise V2WError(
                f"read {self.file}", f"it is not parquet that can be read ({one_line(error)})", TRY
            ) from None
        if isinstance(error, ValueError | OverflowError | MemoryError):
            raise V2WError(
                f"read {self.file}", str(error) or "there is too little memory for it", TRY
            ) from None


def _check_type(name: str, type_: pa.DataType, kind: Kind) -> None:
    if kind == "whole":
        fits = pa.types.is_integer(type_)
    elif kind == "seconds":
        fits = _is_number(type_)
    elif kind == "text":
        if pa.types.is_dictionary(type_):
            type_ = type_.value_type
        fits = pa.types.is_string(type_) or pa.types.is_large_string(type_)
    else:
        fixed = pa.types.is_fixed_size_list(type_)
        if fixed or pa.types.is_list(type_) or pa.types.is_large_list(type_):
            fits = _is_amount(type_.value_type) and (not fixed or type_.list_size == kind)
        else:
            fits = kind == 1 and _is_amount(type_)  # as LeRobot stores one number
    if not fits:
        wanted = (
            f"{kind} numbers" if isinstance(kind, int) else {"whole": "whole numbers"}.get(str(kind), kind)
        )
        raise ValueError(f"column {name!r} is of type {type_!s:.100}, not {wanted}")


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_integer(type_))


def _is_amount(type_: pa.DataType) -> bool:
    return _is_number(type_) or bool(pa.types.is_boolean(type_))


def _values(name: str, column: pa.ChunkedArray, kind: Kind) -> Any:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise ValueError(f"column {name!r}, row {row}: nothing")
    if kind == "text":
        return _texts(name, column)
    if isinstance(kind, int):
        return _vectors(name, column, kind)
    exact: NDArray[Any] = column.cast(pa.int64() if kind == "whole" else pa.float64()).to_numpy()
    most = MAX_WHOLE if kind == "whole" else MAX_SECONDS
    _require(name, (exact >= 0) & (exact <= most), exact)
    return exact


def _vectors(name: str, column: pa.ChunkedArray, width: int) -> NDArray[np.float32]:
    if not _is_amount(column.type):
        lengths = pc.list_value_length(column).to_numpy()
        _require(name, lengths == width, lengths, " numbers")
        column = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy())) // width
            raise ValueError(f"column {name!r}, row {row}: nothing among its numbers")
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = column.to_numpy().astype(np.float32).reshape(-1, width)
    _require(name, np.isfinite(found).all(1), found, " in float32")
    return found


def _texts(name: str, column: pa.ChunkedArray) -> list[str]:
    """Of texts that are stored once and pointed to, so that no one of them is copied to every row."""
    texts: list[str] = []
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary_encode()
        lengths = pc.binary_length(chunk.dictionary)
        if (longest := pc.max(lengths).as_py() or 0) > 4 * MAX_TEXT:
            raise ValueError(f"column {name!r}: a text of {longest} bytes, over the limit of {4 * MAX_TEXT}")
        known = chunk.dictionary.to_pylist()
        texts += [known[i] for i in chunk.indices.to_pylist()]
    if None in texts:
        raise ValueError(f"column {name!r}, row {texts.index(None)}: nothing")  # type: ignore[arg-type]
    return texts


def _require(name: str, good: Any, values: NDArray[Any], what: str = "") -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"column {name!r}, row {row}: {np.array2string(values[row], threshold=8)}{what}")
