"""Which numbers of a LeRobot data set make an action, and of what kind they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from v2w_convert.data.actions import MAX_CHOICES, ActionKind, ActionPart, ActionSpace
from v2w_convert.data.formats.lerobot_info import Info
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError

ACTION, STATE = "action", "observation.state"


@dataclass(frozen=True)
class Numbers:
    """A feature whose numbers are read.

    Attributes:
        key: Its name, which is that of its column.
        width: How many numbers it has in each frame.
        kind: What they are.
        labels: Their names; of a single choice, names of the choices; empty where nobody said.
    """

    key: str
    width: int
    kind: ActionKind
    labels: tuple[str, ...]


def choose_numbers(info: Info, settings: DataSettings, path: Path) -> list[Numbers]:
    """The features that make an action: those that `action_key` names, and with `state` the recorded state.

    The data declares a kind by a feature's type: `bool` keys that are down, one whole number a choice, floating point
    amounts. Several whole numbers may be either.

    Raises:
        V2WError: There is no such feature, it is no flat vector of numbers, or its kind is not clear.
    """
    asked = f"read the data set {path}"
    keys = _keys(info, settings.action_key or _all_parts(info) or ACTION, asked)
    found = [_numbers(info, key, settings.action_kind, asked) for key in keys]
    if settings.state:
        if STATE not in info.numbers:
            raise V2WError(asked, f"no numbers {STATE!r} were recorded", "without --state")
        labels = tuple(f"state.{label}" for label in info.features[STATE].labels)
        found.append(Numbers(STATE, info.features[STATE].shape[0], "continuous", labels))
    if len({one.key for one in found}) < len(found):
        raise V2WError(asked, f"the same numbers twice: {', '.join(one.key for one in found)}", "each once")
    return found


def action_space(
    numbers: Sequence[Numbers],
    highest: Callable[[str], NDArray[Any]],
    path: Path,
    counts: Sequence[int] | None = None,
) -> ActionSpace:
    """What an action vector is made of.

    Args:
        numbers: What `choose_numbers` found.
        highest: The largest value of each number of a feature; called for choices that nobody named or counted.
        path: The data set, for the error message.
        counts: How many choices each discrete number has, where that was said.

    Raises:
        V2WError: An index is so large that it can be no choice.
    """
    parts: list[ActionPart] = []
    said = None if counts is None else iter(counts)
    for one in numbers:
        named = len(one.labels) == one.width
        if one.kind != "discrete":
            name = "state" if one.key == STATE else one.key
            labels = one.labels if named else tuple(f"{name}_{i}" for i in range(one.width))
            parts.append(ActionPart(one.key, one.kind, one.width, labels))
        elif one.width == 1 and len(one.labels) > 1:
            parts.append(ActionPart(one.key, one.kind, len(one.labels), one.labels))
            if said is not None:
                next(said, None)
        else:
            largest = (
                highest(one.key).tolist() if said is None else [next(said, 1) - 1 for _ in range(one.width)]
            )
            for i, value in enumerate(largest):
                if not 0 <= value < MAX_CHOICES:
                    found = f"{one.key!r} goes up to {value:.10g}, which is no choice among {MAX_CHOICES}"
                    raise V2WError(f"read the data set {path}", found, "--action-kind continuous")
                name = one.key if one.width == 1 else one.labels[i] if named else f"{one.key}_{i}"
                choices = tuple(map(str, range(int(value) + 1)))
                parts.append(ActionPart(name, "discrete", len(choices), choices))
    return ActionSpace(tuple(parts))


def _all_parts(info: Info) -> str | None:
    """Where there is no `action`, all action.NAME, as `lerobot_parts` writes an action of several parts; None where there is."""
    return (
        None
        if ACTION in info.features
        else ",".join(key for key in info.numbers if key.startswith(f"{ACTION}."))
    )


def _keys(info: Info, said: str, asked: str) -> list[str]:
    """One name, which may have commas, or several between commas."""
    keys = [said] if said in info.features else said.split(",")
    for key in keys:
        if key not in info.features:
            known = f"--action-key, one or several of: {', '.join(info.numbers)}" if info.numbers else None
            raise V2WError(asked, f"there is no {key!r}", known or "a data set with actions")
        if key not in info.numbers:
            feature = info.features[key]
            found = f"{key!r} is {feature.dtype} of shape {feature.shape}, not one flat vector of numbers"
            raise V2WError(asked, f"{found} a frame", ", ".join(info.numbers) or "a data set with actions")
    return keys


def _numbers(info: Info, key: str, said: ActionKind | None, asked: str) -> Numbers:
    feature = info.features[key]
    width, whole = feature.shape[0], feature.dtype.startswith(("int", "uint"))
    if said is None and whole and width > 1:
        raise V2WError(
            asked,
            f"{key!r} is {width} whole numbers ({feature.dtype}), which may be amounts, choices or keys",
            "--action-kind continuous, discrete or multi_binary",
        )
    declared: ActionKind = (
        "multi_binary" if feature.dtype == "bool" else "discrete" if whole else "continuous"
    )
    return Numbers(key, width, said or declared, tuple(feature.labels))
