"""The conditions that a converted model uses when its caller gives none, such as a prompt's embedding."""

from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.errors import V2WError
from v2w_convert.plan.resolve import ResolvedPlan


def stored_conditions(resolved: ResolvedPlan, file: Path | None) -> dict[str, Tensor]:
    """The plan's null conditions, replaced by the tensors that the safetensors `file` holds, one per condition, unbatched.

    A prompt may have any number of tokens. Conditions that are as large as a frame are not stored.

    Raises:
        V2WError: With all faults, if the file holds anything else.
    """
    nulls = resolved.call.null_conditions()
    if file is None:
        return nulls
    asked = f"take the conditions from {file}"
    header = read_header(file)
    faults = [f"{name} is not a condition of this family" for name in header.keys() - nulls.keys()]
    found = {}
    for name in header.keys() & nulls.keys():
        if not resolved.call.conditions[name].accepts(header[name].shape):
            faults.append(f"{name} is {header[name].shape}, not {tuple(nulls[name].shape)}")
        elif header[name].dtype == "C64":
            faults.append(f"{name} is complex")
        else:
            found[name] = read_tensor(header[name]).to(nulls[name].dtype)
            if not bool(torch.isfinite(found[name]).all()):
                faults.append(f"{name} has values that are not finite")
    if faults:
        raise V2WError(asked, sorted(faults), f"tensors named {', '.join(nulls) or 'nothing: it has none'}")
    return nulls | found


def conditions_match(resolved: ResolvedPlan, file: Path | None, stored: Path) -> bool:
    """Whether the file `stored` holds what `stored_conditions` gives."""
    wanted = stored_conditions(resolved, file)
    found = (
        {name: read_tensor(info) for name, info in read_header(stored).items()} if stored.is_file() else {}
    )
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
