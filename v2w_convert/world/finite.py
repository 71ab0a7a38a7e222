"""Numbers that are not finite: whether there are any, and where they come from."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from v2w_convert.plan.probe import Visit, watched


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are, by the extremes, which NaN and infinities reach: one fast pass, and nothing is copied."""
    if not tensor.numel() or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.is_complex() or tensor.element_size() == 1:  # which have no extremes in torch
        return bool(tensor.to(torch.complex64 if tensor.is_complex() else torch.float32).isfinite().all())
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def origin(model: nn.Module | None, run: Callable[[], object]) -> str:
    """Where numbers first are not finite when `run` runs a model: in a weight, else in what a module returns.

    Args:
        model: The model; None: nothing is known of it.
        run: Calls it, and is called once, unless a weight is found.

    Returns:
        The beginning of a sentence that ends with "not finite".
    """
    for name, value in (*model.named_parameters(), *model.named_buffers()) if model is not None else ():
        if not is_finite(value):
            return f"the weight {name} is"
    found: list[str] = []

    def look(name: str, visit: Visit) -> None:
        if not found and not all(map(is_finite, visit.outputs)):
            found.append(name)

    # Eager: a compiled model does not stop at its modules.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), watched(model or nn.Module(), look):
        run()
    return (
        f"the module {found[0]} is the first whose result is" if found else "what is made of its results is"
    )
