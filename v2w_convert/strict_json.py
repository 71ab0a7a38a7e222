"""Strict JSON: duplicate keys, other encodings than UTF-8 and hostile sizes are refused."""

import json
import reprlib
from collections import Counter
from pathlib import Path
from typing import Any

from v2w_convert.errors import V2WError

MAX_BYTES = 5_000_000
MAX_VALUES = 100_000


def parse_object(data: bytes, max_values: int = MAX_VALUES) -> dict[str, Any]:
    """The JSON object that the UTF-8 text `data` holds.

    Raises:
        ValueError: If it holds anything else, a key twice, or more than `max_values` commas and opening
            brackets: as many as its values, or more where names hold some, too.
    """
    # Before it is parsed: a value takes hundreds of bytes in memory, and as few as two in the text.
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > max_values:
        raise ValueError(f"more than {max_values} JSON values")

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
            raise ValueError(f"{reprlib.repr(key)} appears twice")
        return built

    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=build)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(parsed, dict):
        raise ValueError("not a JSON object")
    return parsed


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`.

    Raises:
        V2WError: Naming the file, if it cannot be read as one.
    """
    try:
        if not file.is_file():  # opening a FIFO would wait for ever
            raise ValueError("not a regular file" if file.exists() else "no such file")
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file.stat().st_size} bytes of JSON, over the limit of {MAX_BYTES}")
        return parse_object(file.read_bytes())
    except OSError as error:
        found = error.strerror or str(error)
    except ValueError as error:
        found = str(error)
    raise V2WError(f"read {file}", found, "download or save the file again")
