"""The kinds of change that a plan may ask for: one file each, and this tuple of them all."""

from v2w_convert.operations.action import Action
from v2w_convert.operations.base import Kept, Operation
from v2w_convert.operations.causal_attention import CausalAttention
from v2w_convert.operations.causal_conv import CausalConv
from v2w_convert.operations.frame_norm import FrameNorm
from v2w_convert.operations.frame_position import FramePosition

OPERATIONS: tuple[type[Operation], ...] = (CausalConv, FrameNorm, CausalAttention, FramePosition, Action)

__all__ = [
    "OPERATIONS",
    "Action",
    "CausalAttention",
    "CausalConv",
    "FrameNorm",
    "FramePosition",
    "Kept",
    "Operation",
]
