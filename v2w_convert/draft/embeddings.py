"""Where a base embeds the noise level, and where it adds positions in time: found by what its modules receive and return."""

from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.config_keys import expression_for
from v2w_convert.draft.operation_entries import Position
from v2w_convert.plan.probe import Recording


def noise_level_embedding(
    model: nn.Module, reference: Recording, other_level: Recording, other_inputs: Recording
) -> str | None:
    """The module that maps each clip's noise level to a vector, where the action can enter; None if there is none.

    Args:
        model: The base.
        reference: A run.
        other_level: A run with another noise level.
        other_inputs: A run with everything changed but the noise level.
    """
    level_only = [
        name
        for name in reference
        if _differ(reference, other_level, name)
        and not _differ(reference, other_inputs, name)
        and _linear_layers(model.get_submodule(name))
    ]
    deep = [name for name in level_only if len(_linear_layers(model.get_submodule(name))) >= 2]
    whole = [name for name in deep if _maps_rows(model, reference, name)]
    outermost = [name for name in whole if not any(name.startswith(f"{other}.") for other in whole)]
    if outermost:
        return outermost[0]
    # A module that receives the number itself: its last linear layer that receives a row.
    for name in deep:
        last = [
            child
            for child in level_only
            if child.startswith(f"{name}.") and _maps_rows(model, reference, child)
        ]
        if last:
            return last[-1]
    return next((name for name in level_only if _maps_rows(model, reference, name)), None)


def position_modules(
    model: nn.Module, reference: Recording, other_inputs: Recording, t: int, config: dict[str, Any]
) -> list[Position]:
    """The modules that add positions in time, or receive a frame's index.

    Args:
        model: The base.
        reference: A run on clips of t frames.
        other_inputs: A run with other inputs.
        t: Frames.
        config: The base's.

    Returns:
        Of each its path, and the fields of `frame_position`.
    """
    found: list[Position] = []
    for name, visits in reference.items():
        module, visit = model.get_submodule(name), visits[0]
        if len(visit.outputs) != 1:
            continue
        inputs, output = visit.inputs, visit.outputs[0]
        weights = [*module.parameters()]
        if hasattr(module, "_get_positional_embeddings"):
            if getattr(module, "use_positional_embeddings", False):
                found.append((name, {"mode": "join", "period": _joined_period(module, config)}))
        elif not weights and len(inputs) == 1 and inputs[0].ndim == 1 and _is_frame_index(inputs[0], t):
            found.append((name, {}))
        elif not weights and len(inputs) == 1 and _adds_rows(module, inputs[0], output, t):
            found.append((name, {"mode": "add", "period": _table_period(module, config)}))
        elif weights and inputs and inputs[0].ndim == 5 and output.ndim == 3 and output.shape[1] % t == 0:
            if torch.equal(output, other_inputs[name][0].outputs[0]):  # it depends on shapes only
                longest = max(w.shape[0] for w in weights)
                period = expression_for(longest, (f"{key}[0]" for key in config), config)
                found.append((name, {"mode": "make", "period": period or longest}))
    return found


def table_positions(
    model: nn.Module, attentions: list[str], t: int, clip_length: int | str
) -> list[list[Position]]:
    """Where rows of a table of the model's own may be added: possibilities, of which the last is "nowhere".

    Args:
        model: The base.
        attentions: Patterns of its attentions through which frames mix.
        t: Frames of its clips.
        clip_length: The same, as the plan says it.
    """
    tables = [name for name, x in model.named_buffers(recurse=False) if x.ndim == 3 and x.shape[:2] == (1, t)]
    first = [pattern.replace("*", "0").split(".") for pattern in attentions]
    paths = [".".join(parts[:n]) for parts in first for n in range(1, len(parts) + 1)]
    modules = dict(model.named_modules())
    fields = [{"mode": "table", "table": name, "period": clip_length} for name in tables]
    return [[(path, dict(f))] for f in fields for path in paths if path in modules] + [[]]


def _differ(a: Recording, b: Recording, name: str) -> bool:
    """Whether a module returned something else."""
    return any(
        x.shape != y.shape or not torch.equal(x, y)
        for v, w in zip(a[name], b.get(name, []), strict=False)
        for x, y in zip(v.outputs, w.outputs, strict=False)
    )


def _linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def _maps_rows(model: nn.Module, recording: Recording, name: str) -> bool:
    """Whether a module receives one row for each clip, and returns one vector."""
    visit, linear = recording[name][0], _linear_layers(model.get_submodule(name))
    return (
        len(visit.outputs) == 1
        and visit.outputs[0].ndim == 2
        and visit.outputs[0].shape[1] == linear[-1].out_features
        and bool(visit.inputs)
        and visit.inputs[0].ndim == 2
        and visit.inputs[0].shape[1] == linear[0].in_features
    )


def _is_frame_index(x: Tensor, t: int) -> bool:
    """Whether it is 0 … t-1, once for each clip."""
    expected = torch.arange(t, dtype=torch.float64).repeat(len(x) // t)
    return len(x) % t == 0 and torch.equal(x.double(), expected)


def _adds_rows(module: nn.Module, tokens: Tensor, output: Tensor, t: int) -> bool:
    """Whether a module adds the rows of its own buffer to t tokens."""
    buffers = [*module.buffers()]
    if len(buffers) != 1 or tokens.ndim != 3 or tokens.shape[1] != t or output.shape != tokens.shape:
        return False
    rows = buffers[0]
    return (
        rows.ndim == 3
        and rows.shape[0] == 1
        and rows.shape[1] >= t
        and torch.allclose(output - tokens, rows[:, :t], atol=1e-5)
    )


def _table_period(module: nn.Module, config: dict[str, Any]) -> str | int:
    """The length of the module's table, or the key of the config for it."""
    longest = next(module.buffers()).shape[1]
    return next((key for key, value in config.items() if value == longest and "max" in key), longest)


def _joined_period(module: Any, config: dict[str, Any]) -> str | int:
    """The length of CogVideoX's table, in latent frames."""
    longest = (module.sample_frames - 1) // module.temporal_compression_ratio + 1
    expression = "(sample_frames - 1) // temporal_compression_ratio + 1"
    return expression_for(longest, [expression], config) or int(longest)
