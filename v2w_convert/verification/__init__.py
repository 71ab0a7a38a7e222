"""Claims about converted models (`run.verify`), and checks that work on any module with a frame axis."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2w_convert.verification.module import assert_causal, assert_streams, influence

__all__ = ["assert_causal", "assert_streams", "influence"]


def __getattr__(name: str) -> Any:
    """Import the checks on first use: `verification.settings` is read without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from v2w_convert.verification import module

    return getattr(module, name)
