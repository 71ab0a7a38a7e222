"""Which operation a module would get that lets frames mix, by what the module is."""

from torch import nn

from v2w_convert.operations.base import Operation
from v2w_convert.operations.causal_attention import CausalAttention
from v2w_convert.operations.causal_conv import CausalConv
from v2w_convert.operations.frame_norm import FrameNorm
from v2w_convert.operations.linear_attention import LinearAttention


def fitting(module: nn.Module) -> type[Operation] | None:
    """None where no operation fits."""
    for kind in (FrameNorm, CausalConv, LinearAttention, CausalAttention):
        if kind.model_construct(at="").why_not(module) is None:
            return kind
    return None
