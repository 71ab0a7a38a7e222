"""Where a base embeds the noise level, and where it adds positions in time: found by what its modules see and give."""

from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.entries import first_that_is
from v2w_convert.draft.rules import Position, Rule
from v2w_convert.plan.probe import Recording


def level_embedding(model: nn.Module, same: Recording, level: Recording, rest: Recording) -> str | None:
    """The module that turns each clip's noise level into a vector: there the action enters.

    same, level, rest   runs: as they are, with another noise level, with everything but the noise level changed
    """
    alone = [
        name
        for name in same
        if _differ(same, level, name) and not _differ(same, rest, name) and _linear(model.get_submodule(name))
    ]
    wide = [
        name
        for name in alone
        if len(_linear(model.get_submodule(name))) >= 2 and _takes_row(model, same, name)
    ]
    outer = [name for name in wide if not any(name.startswith(f"{other}.") for other in wide)]
    if outer:
        return outer[0]
    # It is given the number itself: its last linear layer, which is given a row.
    for name in (n for n in alone if len(_linear(model.get_submodule(n))) >= 2):
        last = [child for child in alone if child.startswith(f"{name}.") and _takes_row(model, same, child)]
        if last:
            return last[-1]
    return next((name for name in alone if _takes_row(model, same, name)), None)


def positions(
    model: nn.Module, same: Recording, rest: Recording, t: int, config: dict[str, Any]
) -> list[Position]:
    """Modules that add positions in time, or are told a frame's index."""
    found: list[Position] = []
    for name, visits in same.items():
        module, visit = model.get_submodule(name), visits[0]
        if len(visit.outputs) != 1:
            continue
        into, out = visit.inputs, visit.outputs[0]
        weights = [*module.parameters()]
        if hasattr(module, "_get_positional_embeddings"):
            if getattr(module, "use_positional_embeddings", False):
                found.append((name, {"mode": "join", "period": _joined(module, config)}))
        elif not weights and len(into) == 1 and into[0].ndim == 1 and _counts(into[0], t):
            found.append((name, {}))
        elif not weights and len(into) == 1 and _adds(module, into[0], out, t):
            longest = next(module.buffers()).shape[1]
            keys = [key for key, v in config.items() if v == longest and "max" in key]
            found.append((name, {"mode": "add", "period": keys[0] if keys else longest}))
        elif weights and into and into[0].ndim == 5 and out.ndim == 3 and out.shape[1] % t == 0:
            if torch.equal(out, rest[name][0].outputs[0]):
                longest = max(w.shape[0] for w in weights)
                period = first_that_is(longest, (f"{k}[0]" for k in config), config)
                found.append((name, {"mode": "make", "period": period or longest}))
    return found


def tables(model: nn.Module, sites: list[Rule], t: int, frames: int | str) -> list[list[Position]]:
    """Where rows of a table of the model's own may be added, and nowhere; a trial tells which it is.

    frames  the one length of clips that it takes
    """
    found = [name for name, x in model.named_buffers(recurse=False) if x.ndim == 3 and x.shape[:2] == (1, t)]
    first = [rule.fields["at"].replace("*", "0").split(".") for rule in sites if "attention" in rule.name]
    places = [".".join(parts[:n]) for parts in first for n in range(1, len(parts) + 1)]
    modules = dict(model.named_modules())
    fields = [{"mode": "table", "table": name, "period": frames} for name in found]
    return [[(at, dict(f))] for f in fields for at in places if at in modules] + [[]]


def _differ(a: Recording, b: Recording, name: str) -> bool:
    """Whether a module gave something else."""
    return any(
        x.shape != y.shape or not torch.equal(x, y)
        for v, w in zip(a[name], b.get(name, []), strict=False)
        for x, y in zip(v.outputs, w.outputs, strict=False)
    )


def _linear(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def _takes_row(model: nn.Module, recording: Recording, name: str) -> bool:
    """Whether it is given one row for each clip, and gives one vector."""
    visit, linear = recording[name][0], _linear(model.get_submodule(name))
    return (
        len(visit.outputs) == 1
        and visit.outputs[0].ndim == 2
        and visit.outputs[0].shape[1] == linear[-1].out_features
        and bool(visit.inputs)
        and visit.inputs[0].ndim == 2
        and visit.inputs[0].shape[1] == linear[0].in_features
    )


def _counts(x: Tensor, t: int) -> bool:
    """Whether it is 0 … t-1, once for each clip."""
    return len(x) % t == 0 and torch.equal(
        x.double(), torch.arange(t, dtype=torch.float64).repeat(len(x) // t)
    )


def _adds(module: nn.Module, into: Tensor, out: Tensor, t: int) -> bool:
    """Whether it adds the rows of its own buffer to t tokens."""
    buffers = [*module.buffers()]
    if len(buffers) != 1 or into.ndim != 3 or into.shape[1] != t or out.shape != into.shape:
        return False
    rows = buffers[0]
    return (
        rows.ndim == 3
        and rows.shape[0] == 1
        and rows.shape[1] >= t
        and torch.allclose(out - into, rows[:, :t], atol=1e-5)
    )


def _joined(module: Any, config: dict[str, Any]) -> str | int:
    """The length of the base's own table, in latent frames."""
    ratio = module.temporal_compression_ratio
    longest = (module.sample_frames - 1) // ratio + 1
    wanted = "(sample_frames - 1) // temporal_compression_ratio + 1"
    return first_that_is(longest, [wanted], config) or longest
