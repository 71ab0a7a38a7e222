"""Names of tensors as wrappers and averages of a training leave them -> the model's own."""

from collections.abc import Iterable
from typing import TypeVar

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.listing import few
from v2w_convert.errors import V2WError

INFIXES = (
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)  # of any module, nested ones too
PREFIXES = (
    "module.",
    "_forward_module.",
    "model.",
)  # of the whole model: DDP, DeepSpeed, a trainer's attribute
DENOISER = "model.diffusion_model."  # LDM's and ComfyUI's name of the denoiser, which is no wrapper
T = TypeVar("T")
EMA = ("ema.", "ema_model.", "model_ema.")


def without_wrappers(tensors: dict[str, T], asked: str) -> tuple[dict[str, T], tuple[str, ...]]:
    """The tensors by their plain names, and a note on what was stripped.

    Raises:
        V2WError: If two tensors would then share a name.
    """
    stripped: list[str] = []
    renamed = {_without_infixes(name): name for name in tensors}
    if len(renamed) < len(tensors):
        raise V2WError(asked, f"without {few(list(INFIXES))} two tensors share a name: {_twins(tensors)}")
    stripped += [infix for infix in INFIXES if any(infix in name for name in tensors)]
    while (prefix := _common_prefix(renamed)) is not None:
        renamed = {name.removeprefix(prefix): old for name, old in renamed.items()}
        stripped.append(prefix)
    if not stripped:
        return tensors, ()
    note = f"{', '.join(dict.fromkeys(stripped))} stripped from the names of tensors: a wrapper's, not the model's"
    return {name: tensors[old] for name, old in renamed.items()}, (note,)


def choose_average(
    tensors: dict[str, TensorInfo], ema: bool | None, asked: str
) -> tuple[dict[str, TensorInfo], tuple[str, ...]]:
    """The weights, or their average over training where a file has both, and a note on which.

    Args:
        tensors: By plain names.
        ema: Whether the average is wanted; None: there must be only one of both.
        asked: What was asked for, for the message.

    Raises:
        V2WError: If there are both and none was chosen, or if the chosen one is not there.
    """
    prefix = next((prefix for prefix in EMA if any(name.startswith(prefix) for name in tensors)), None)
    if prefix is None:
        require_average(False, ema, asked)
        return tensors, ()
    own = {name: info for name, info in tensors.items() if not name.startswith(prefix)}
    average = {n.removeprefix(prefix): info for n, info in tensors.items() if n.startswith(prefix)}
    if prefix == "model_ema.":  # LDM takes the dots out of the names
        plain = {n.removeprefix("model.").replace(".", ""): n for n in own if n.startswith("model.")}
        average = {plain.get(name, name): info for name, info in average.items()}
    if not any(name in own for name in average):  # nothing that they would be an average of
        if ema is False:
            raise V2WError(asked, f"all its weights are averages over training ({prefix}*)", "--ema")
        return average, (f"its weights are averages over training ({prefix}*)",)
    if ema is None:
        raise both(asked, f"the weights and their average over training ({prefix}*)")
    if ema:
        return own | average, (f"the average over training ({prefix}*) is read",)
    return own, (f"the average over training ({prefix}*) is ignored",)


def both(asked: str, found: str) -> V2WError:
    """The refusal of a checkpoint with weights and averages, where none was chosen."""
    return V2WError(asked, f"it has both {found}", "--ema for the average, which samples better, or --no-ema")


def require_average(found: bool, ema: bool | None, asked: str) -> None:
    """Raise V2WError if an average is wanted where none was found."""
    if ema and not found:
        raise V2WError(
            asked, "it has no average of the weights over training (EMA)", "the same without --ema"
        )


def _without_infixes(name: str) -> str:
    for infix in INFIXES:
        name = name.replace(infix, "")
    return name


def _common_prefix(names: Iterable[str]) -> str | None:
    names = list(names)
    if not names or all(name.startswith(DENOISER) for name in names):
        return None
    return next((p for p in PREFIXES if all(n.startswith(p) and n != p for n in names)), None)


def _twins(names: Iterable[str]) -> str:
    seen: dict[str, str] = {}
    for name in names:
        if (plain := _without_infixes(name)) in seen:
            return f"{seen[plain]} and {name}"
        seen[plain] = name
    return ""
