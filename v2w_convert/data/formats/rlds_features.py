"""What the steps of an RLDS episode hold, as features.json of tensorflow_datasets declares it."""

import math
from dataclasses import dataclass
from typing import Any

from v2w_convert.data.actions import ActionKind
from v2w_convert.data.formats.lerobot_actions import Numbers
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError

STEPS = "steps"
ACTION = "action"
INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "instruction")
MAX_WIDTH = 100_000


@dataclass(frozen=True)
class Leaf:
    """What each step has under a name.

    Attributes:
        name: Names from the step down, with slashes: observation/image.
        kind: "picture", "numbers", "text", or "other": what is not read.
        dtype: As it is declared.
        width: How many numbers it is.
        choices: Of a class label, how many there are; 0 where it is none.
    """

    name: str
    kind: str
    dtype: str = ""
    width: int = 1
    choices: int = 0


def leaves(features: dict[str, Any]) -> list[Leaf]:
    """Of the content of features.json, what each step has.

    Raises:
        ValueError: It is no set of episodes with steps, or malformed.
    """
    steps = _members(features).get(STEPS)
    if not isinstance(steps, dict) or not str(steps.get("pythonClassName", "")).endswith(".Dataset"):
        raise ValueError("it declares no episodes with a data set `steps`, as RLDS has them")
    step = _object(_object(steps, "sequence"), "feature")
    return list(_leaves("", step))


def _leaves(name: str, node: dict[str, Any]) -> Any:
    if "featuresDict" in node:
        for key, member in _members(node).items():
            if not key.isprintable() or "/" in key or not isinstance(member, dict):
                raise ValueError(f"a feature {key!r:.200}")
            yield from _leaves(f"{name}/{key}" if name else key, member)
        return
    yield _leaf(name, node)


def _leaf(name: str, node: dict[str, Any]) -> Leaf:
    if "image" in node:
        image = _object(node, "image")
        shape, dtype = _shape(image), image.get("dtype", "uint8")
        colours = dtype == "uint8" and len(shape) == 3 and shape[2] in (1, 3, 4)
        return Leaf(name, "picture" if colours else "other", str(dtype))
    if "text" in node:
        return Leaf(name, "text")
    if "classLabel" in node:
        return Leaf(name, "numbers", "int64", choices=_whole(_object(node, "classLabel").get("numClasses")))
    if "tensor" in node:
        tensor = _object(node, "tensor")
        shape, dtype = _shape(tensor), str(tensor.get("dtype"))
        if dtype in ("string", "object", "str"):
            return Leaf(name, "text" if not shape else "other")
        width = math.prod(shape)
        plain = tensor.get("encoding", "none") in ("none", "ENCODING_UNSPECIFIED")
        if plain and 1 <= width <= MAX_WIDTH and dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
            return Leaf(name, "numbers", dtype, width)
    return Leaf(name, "other")


def choose_numbers(found: list[Leaf], settings: DataSettings, asked: str) -> list[Numbers]:
    """What makes an action: `action`, all under it, or what --action-key names, separated by commas.

    Raises:
        V2WError: There is no such thing, it is no numbers, or its kind is not clear.
    """
    numbers = {leaf.name: leaf for leaf in found if leaf.kind == "numbers"}
    chosen: list[Leaf] = []
    known = ", ".join(numbers) or "a data set with actions"
    for key in (settings.action_key or ACTION).split(","):
        own = [leaf for name, leaf in numbers.items() if name == key or name.startswith(f"{key}/")]
        if not own:
            raise V2WError(
                asked, f"its steps have no numbers {key!r}", f"--action-key, one or several of: {known}"
            )
        chosen += own
    if len({leaf.name for leaf in chosen}) < len(chosen):
        raise V2WError(asked, "the same numbers twice", "each once")
    return [_numbers(leaf, settings.action_kind, asked) for leaf in chosen]


def _numbers(leaf: Leaf, said: ActionKind | None, asked: str) -> Numbers:
    kind: ActionKind = "continuous"
    if leaf.choices:
        kind = "discrete"
    elif leaf.dtype == "bool":
        kind = "multi_binary"
    elif leaf.dtype.startswith(("int", "uint")) and said is None:
        found = f"{leaf.name!r} is {leaf.width} whole numbers ({leaf.dtype}), which may be amounts, choices or keys"
        raise V2WError(asked, found, "--action-kind continuous, discrete or multi_binary")
    labels = tuple(map(str, range(leaf.choices))) if said in (None, "discrete") else ()
    return Numbers(leaf.name, leaf.width, said or kind, labels)


def _members(node: dict[str, Any]) -> dict[str, Any]:
    return _object(_object(node, "featuresDict"), "features")


def _object(node: dict[str, Any], key: str) -> dict[str, Any]:
    found = node.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"{key!r} is missing or no object")
    return found


def _shape(node: dict[str, Any]) -> tuple[int, ...]:
    """The declared sizes; -1 where one is open."""
    said = node.get("shape", {})
    sizes = said.get("dimensions", []) if isinstance(said, dict) else None
    if not isinstance(sizes, list) or len(sizes) > 8:
        raise ValueError("a shape that is none")
    return tuple(_whole(size, -1) for size in sizes)


def _whole(value: Any, least: int = 1) -> int:
    """A whole number, which protocol buffers write as text in JSON."""
    text = str(value)
    if isinstance(value, bool | float) or not text.removeprefix("-").isascii() or len(text) > 9:
        raise ValueError(f"a number {value!r:.50}")
    try:
        found = int(text)
    except ValueError:
        raise ValueError(f"a number {value!r:.50}") from None
    if found < least:
        raise ValueError(f"a number {value!r:.50}")
    return found
