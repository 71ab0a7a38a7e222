"""A result as JSON: what `--json` prints and `docs/schemas` describes."""

import json
from typing import Any, ClassVar, Protocol

from pydantic_core import to_jsonable_python


class Result(Protocol):
    """A dataclass that a function of the API returns."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def result_data(result: Result) -> dict[str, Any]:
    """The result as plain data: `ok`, and its fields.

    A number that is not finite, which JSON cannot hold, becomes None.
    """
    as_json = getattr(result, "as_json", None)
    data: dict[str, Any] = as_json() if as_json is not None else _plain(result)
    return {"ok": bool(getattr(result, "ok", True)), **data}


def result_json(result: Result, indent: int | None = None) -> str:
    """The result as JSON text, on one line unless `indent` is given."""
    return json.dumps(result_data(result), allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    data = to_jsonable_python(value, inf_nan_mode="constants")
    return _finite(data)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return (
        None if isinstance(data, float) and (data != data or data in (float("inf"), -float("inf"))) else data
    )
