"""Parameters of tests in two tiers: `make test` runs the fast ones, `make test-all` all."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_except(fast: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """`values` as parameters; all but those in `fast` are marked slow."""
    values = list(values)
    assert set(fast) <= set(values), "a fast case that is not among the values"
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values]
