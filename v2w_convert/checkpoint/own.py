"""The tensors of a model itself, whatever a training wrapped around or put beside it."""

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.names import choose_average, without_wrappers
from v2w_convert.checkpoint.unusable import check_tensors_usable


def own_tensors(
    tensors: dict[str, TensorInfo], ema: bool | None, asked: str
) -> tuple[dict[str, TensorInfo], tuple[str, ...]]:
    """The model's own tensors by their own names, and notes on what was stripped or left out.

    Raises:
        V2WError: If they are adapters or quantised, or if there are averages and none was chosen.
    """
    tensors, wrappers = without_wrappers(tensors, asked)
    check_tensors_usable(tensors, asked)
    tensors, average = choose_average(tensors, ema, asked)
    return tensors, (*wrappers, *average)
