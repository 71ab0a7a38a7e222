"""The kinds of change that a plan may ask for: one file each, and this tuple of them all.

Where several fit one module, the first does: what is more special comes first.
"""

from v2w_convert.operations.action import Action
from v2w_convert.operations.base import AttentionWindow, Invariant, Operation, ReceptiveField
from v2w_convert.operations.causal_attention import CausalAttention
from v2w_convert.operations.causal_conv import CausalConv
from v2w_convert.operations.central_conv import CentralConv
from v2w_convert.operations.first_frame import FirstFrame
from v2w_convert.operations.frame_norm import FrameNorm
from v2w_convert.operations.frame_position import FramePosition
from v2w_convert.operations.linear_attention import LinearAttention
from v2w_convert.operations.trained_action import TrainedAction

OPERATIONS: tuple[type[Operation], ...] = (
    CausalConv,
    FrameNorm,
    LinearAttention,
    CausalAttention,
    FramePosition,
    FirstFrame,
    Action,
    TrainedAction,
    CentralConv,
)

__all__ = [
    "OPERATIONS",
    "Action",
    "AttentionWindow",
    "CausalAttention",
    "CausalConv",
    "CentralConv",
    "FirstFrame",
    "FrameNorm",
    "FramePosition",
    "Invariant",
    "LinearAttention",
    "Operation",
    "ReceptiveField",
    "TrainedAction",
]
