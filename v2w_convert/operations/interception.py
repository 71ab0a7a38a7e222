"""Catching calls that a base's forward makes, in eager mode, under `torch.compile` and under `torch.export`.

A site catches calls with a `TorchFunctionMode`. Two rules keep it right under `torch.compile`. Dynamo traces the mode
into the graph; where the base's forward breaks the graph, Dynamo enters the mode again and runs the finished graph
inside it.

- The site's own calls use another function than the one that it catches (`SITE_ATTENTION`, `@`, `torch.sum` for
  `Tensor.sum`). Otherwise the mode would catch them, too, when the graph runs.
- Everything else goes through `call_unchanged`, which Dynamo can trace.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Softmax attention that no site catches: the operator behind torch.nn.functional.scaled_dot_product_attention.
SITE_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def call_unchanged(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    """The call that a `TorchFunctionMode` received, for functions that it leaves alone."""
    if func is Tensor.unflatten:  # its Python body calls super(), which Dynamo cannot trace in a mode
        func = torch.unflatten
    return func(*args, **(kwargs or {}))
