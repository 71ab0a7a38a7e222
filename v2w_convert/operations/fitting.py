"""Which operation fits a module through which frames mix, by what the module is."""

from torch import nn

from v2w_convert.operations import OPERATIONS, Operation


def fitting(module: nn.Module) -> type[Operation] | None:
    """The first operation for mixing sites that fits `module`; None where none does."""
    for kind in OPERATIONS:
        if kind.mixes and kind.model_construct(at="").why_not(module) is None:
            return kind
    return None
