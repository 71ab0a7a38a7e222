"""Claims about converted models (`run.verify`), and of those the ones that any module with a frame axis can be asked."""

from v2w_convert.verification.module import assert_causal, assert_streams, influence

__all__ = ["assert_causal", "assert_streams", "influence"]
