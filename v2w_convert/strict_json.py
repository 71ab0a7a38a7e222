"""Strict JSON: duplicate keys, other encodings than UTF-8, hostile sizes and numbers that are none are refused."""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from v2w_convert.errors import V2WError

MAX_BYTES = 5_000_000
MAX_VALUES = 100_000
MAX_DIGITS = 32  # of a whole number: tokenizers write 10^30 for "any length"


def parse_object(data: bytes, max_values: int = MAX_VALUES, *, infinity: bool = False) -> dict[str, Any]:
    """The JSON object that the UTF-8 text `data` holds.

    Args:
        data: The text.
        max_values: How many commas and opening brackets it may have.
        infinity: Whether `Infinity` and `-Infinity` are numbers, which JSON does not have: diffusers writes them into
            the configs of schedulers.

    Raises:
        ValueError: If it holds anything else, a key twice, a number that is not finite or of over 32 digits, or more
            than `max_values` commas and opening brackets: as many as its values, or more where names hold some, too.
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

    def constant(text: str) -> float:
        if text == "NaN" or not infinity:
            raise ValueError(f"{text}, which is no number in JSON")
        return float(text)

    try:
        parsed = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=build,
            parse_constant=constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(parsed, dict):
        raise ValueError("not a JSON object")
    return parsed


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text:.40}, which is too large a number")
    return number


def _bounded(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text:.20}…, a number of {len(text)} digits")
    return int(text)


def read_object(file: Path, *, infinity: bool = False) -> dict[str, Any]:
    """The JSON object in `file`; `infinity` as of `parse_object`.

    Raises:
        V2WError: Naming the file, if it cannot be read as one.
    """
    try:
        if not file.is_file():  # opening a FIFO would wait for ever
            raise ValueError("not a regular file" if file.exists() else "no such file")
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file.stat().st_size} bytes of JSON, over the limit of {MAX_BYTES}")
        return parse_object(file.read_bytes(), infinity=infinity)
    except OSError as error:
        found = error.strerror or str(error)
    except ValueError as error:
        found = str(error)
    raise V2WError(f"read {file}", found, "download or save the file again")


def read_lines(file: Path, most: int) -> Iterator[dict[str, Any]]:
    """The JSON objects in `file`, one in each line that is not empty.

    Args:
        file: A regular file.
        most: How many there may be. A line may have as many bytes as all of another file.

    Raises:
        V2WError: Naming the file and the line, if it cannot be read as one.
    """
    number = 0
    try:
        with file.open("rb") as stream:
            while line := stream.readline(MAX_BYTES + 1):
                number += 1
                if number > most:
                    raise ValueError(f"more than {most} lines")
                if len(line) > MAX_BYTES:
                    raise ValueError(f"a line over the limit of {MAX_BYTES} bytes")
                if line.strip():
                    yield parse_object(line)
        return
    except OSError as error:
        found = error.strerror or str(error)
    except ValueError as error:
        found = f"line {number}: {error}"
    raise V2WError(f"read {file}", found, "download or save the file again")
