"""Where frames and actions lie in HDF5 files: paths with a `*`, as --key-map gives them, or the layout of a publisher.

A path is of names in the file, separated by slashes, and has at most one `*`. It stands for the number or name of an
episode: data/*/actions; or, where each frame is an array of its own, of a frame: frame_*_x.
"""

import reprlib
from dataclasses import dataclass, replace
from typing import Any

from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.data.formats.hdf5_frames import is_pictures
from v2w_convert.data.validation.hdf5 import find, members
from v2w_convert.strict_json import parse_object

MAX_FPS = 1000


@dataclass(frozen=True)
class KeyMap:
    """Where the data lies in each file.

    Attributes:
        frames: The path of an episode's frames, or of one frame.
        actions: The same of actions.
        bgr: Whether blue comes first.
        fps: Frames a second; None where nobody says.
        cameras: The names in `frames` that may stand in the place of {camera}; none where it has no such place.
        space: What the numbers of an action are; None where nobody says.
        encoded: Whether choices are recorded as `space` encodes them, not as indices.
    """

    frames: str
    actions: str
    bgr: bool = False
    fps: float | None = None
    cameras: tuple[str, ...] = ()
    space: ActionSpace | None = None
    encoded: bool = False


# Of CS:GO (github.com/TeaPearce/Counter-Strike_Behavioural_Cloning, config.py, onehot_to_actions).
KEYS = ("w", "a", "s", "d", "space", "ctrl", "shift", "1", "2", "3", "r", "left_click", "right_click")
MOUSE_X = (1000, 500, 300, 200, 100, 60, 30, 20, 10, 4, 2)
MOUSE_Y = (200, 100, 50, 20, 10, 4, 2)


def _axis(name: str, ahead: tuple[int, ...]) -> ActionPart:
    labels = tuple(map(str, [*(-step for step in ahead), 0, *reversed(ahead)]))
    return ActionPart(name, "discrete", len(labels), labels)


CSGO = KeyMap(
    "frame_*_x",
    "frame_*_y",
    bgr=True,
    fps=16,
    space=ActionSpace(
        (
            ActionPart("keys", "multi_binary", len(KEYS), KEYS),
            _axis("mouse_x", MOUSE_X),
            _axis("mouse_y", MOUSE_Y),
        )
    ),
    encoded=True,
)
ROBOMIMIC = KeyMap("data/*/obs/{camera}", "data/*/actions")
MINARI = KeyMap("*/observations", "*/actions")
PRESETS = {"csgo": CSGO, "robomimic": ROBOMIMIC, "minari": MINARI}
HELP = f"{', '.join(PRESETS)}, or frames=PATH,actions=PATH"


def read_key_map(text: str) -> KeyMap:
    """The map that --key-map names or describes: a preset, or frames=PATH,actions=PATH and bgr=1.

    Raises:
        ValueError: It is none.
    """
    if text in PRESETS:
        return PRESETS[text]
    given: dict[str, str] = {}
    for entry in text.split(","):
        name, equals, path = entry.partition("=")
        if not equals or name not in ("frames", "actions", "bgr") or name in given:
            raise ValueError(f"{entry!r:.100} is none of {HELP}")
        given[name] = path
    for name in ("frames", "actions"):
        parts = given.get(name, "").split("/")
        if any(part in ("", ".", "..") for part in parts) or given[name].count("*") > 1:
            raise ValueError(f"{name}: a path without leading slash, with one * at most")
    if ("*" in given["frames"]) != ("*" in given["actions"]):
        raise ValueError("frames and actions: both have a *, or none has")
    if given.get("bgr", "0") not in ("0", "1"):
        raise ValueError("bgr: 0 or 1")
    return KeyMap(given["frames"], given["actions"], bgr=given.get("bgr") == "1")


def recognise(root: Any) -> KeyMap | None:
    """The publisher's layout that a file has; None if it has none of them.

    Raises:
        ValueError: A link in the place of a group.
    """
    if find(root, "frame_0_x") is not None and find(root, "frame_0_y") is not None:
        return CSGO
    if find(root, "episode_0/observations") is not None and find(root, "episode_0/actions") is not None:
        return MINARI
    if (data := find(root, "data")) is not None and "env_args" in data.attrs:
        return ROBOMIMIC
    return None


def complete(key_map: KeyMap, root: Any, metadata: dict[str, Any]) -> KeyMap:
    """A preset with what a file says of itself: its rate, its cameras, the kind of its actions.

    Args:
        key_map: The preset.
        root: The file's root group.
        metadata: Of Minari, what metadata.json beside the file says.

    Raises:
        ValueError: The description is not as the publisher writes it.
    """
    if key_map is ROBOMIMIC:
        return replace(key_map, fps=_control_rate(root), cameras=_cameras(root, "data", "obs"))
    if key_map is MINARI:
        space = minari_space(metadata)
        cameras = _cameras(root, "", "observations")
        if cameras:
            key_map = replace(key_map, frames="*/observations/{camera}", cameras=cameras)
        return replace(key_map, space=space)
    return key_map


def _cameras(root: Any, parent: str, child: str) -> tuple[str, ...]:
    """Names of the pictures in `child` of the first group in `parent`: arrays of bytes with four axes, or of packed pictures."""
    group = find(root, parent) if parent else root
    for name in members(group):
        inside = find(group, f"{name}/{child}")
        return tuple(one for one in members(inside) if is_pictures(find(inside, one)))
    return ()


def _control_rate(root: Any) -> float | None:
    """Of robomimic: env_args of the group data is JSON, with the rate of the robot's control."""
    group = find(root, "data")
    text = None if group is None else group.attrs.get("env_args")
    if not isinstance(text, str | bytes) or len(text) > 1_000_000:
        raise ValueError("env_args of 'data' is no text")
    said = parse_object(text.encode() if isinstance(text, str) else text)
    kwargs = said.get("env_kwargs")
    rate = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
    if rate is None:
        return None
    if not isinstance(rate, int | float) or not 0 < rate <= MAX_FPS:
        raise ValueError(f"env_args: control_freq {rate!r:.50}")
    return float(rate)


def minari_space(metadata: dict[str, Any]) -> ActionSpace | None:
    """The action space that metadata.json describes (minari.serialization); None where it has none.

    Raises:
        ValueError: It is not of numbers, or not as Minari writes it.
    """
    said = metadata.get("action_space")
    if said is None:
        return None
    if not isinstance(said, str):
        raise ValueError("metadata.json: action_space is no text")
    space = parse_object(said.encode(), infinity=True)
    return ActionSpace(tuple(_parts(space, "action")))


def _parts(space: dict[str, Any], name: str) -> list[ActionPart]:
    kind = space.get("type")
    try:
        if kind == "Discrete" and space.get("start", 0) == 0:
            return [_choice(name, space["n"])]
        if kind == "MultiDiscrete" and not any(space.get("start", [])):
            return [_choice(f"{name}_{i}", n) for i, n in enumerate(space["nvec"])]
        if kind == "MultiBinary":
            return [_plain(name, "multi_binary", space["n"])]
        if kind == "Box":
            size = 1
            for side in space["shape"]:
                size *= side
            return [_plain(name, "continuous", size)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"metadata.json: the action space {kind}: {error!s:.100}") from None
    raise ValueError(f"actions of the kind {reprlib.repr(kind)} are not read")


def _choice(name: str, count: Any) -> ActionPart:
    return ActionPart(name, "discrete", _size(count), tuple(map(str, range(_size(count)))))


def _plain(name: str, kind: Any, size: Any) -> ActionPart:
    return ActionPart(name, kind, _size(size), tuple(f"{name}_{i}" for i in range(_size(size))))


def _size(value: Any) -> int:
    if not isinstance(value, int) or not 1 <= value <= 10_000:
        raise ValueError(f"metadata.json: an action of {value!r:.50} numbers or choices")
    return value
