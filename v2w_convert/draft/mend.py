"""Outlines of a call, and what the faults of a forward say is wrong with their numbers.

An outline is a `Call` as plain data, in which widths that are not known yet are numbers that occur nowhere else.
"""

import re
from typing import Any

# Prime: no width of a model is one of these.
UNKNOWN = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157)
FRAMES = re.compile(r"frame|video|length|temporal")

Outline = dict[str, Any]

FAULTS = (
    # (what was given, what was wanted)
    (r"\((?:\d+)x(\d+) and (\d+)x\d+\)", False),
    (r"to have (?P<wanted>\d+) channels, but got (?P<given>\d+) channels", False),
    (r"normalized_shape=\[(?P<wanted>\d+)\].* size ?\[[\d, ]*?(?P<given>\d+)\]", False),
    (r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\)", True),
    (r"Expected size (\d+) but got size (\d+)", True),
)


def mend(data: Outline, fault: str, config: dict[str, Any], t: int) -> Outline | None:
    """The outline with one width put right, if the fault tells which and to what; or with its number of frames."""
    for pattern, either in FAULTS:
        found = re.search(pattern, fault)
        if found is None:
            continue
        groups = found.groupdict()
        given, wanted = (int(x) for x in ((groups["given"], groups["wanted"]) if groups else found.groups()))
        for a, b in [(given, wanted), (wanted, given)] if either else [(given, wanted)]:
            if (better := _width(data, a, b)) is not None:
                return better
            if either and a == t and (better := _frames(data, b, config)) is not None:
                return better
    return None


def _width(data: Outline, given: int, wanted: int) -> Outline | None:
    for unknown in unknowns(data):
        times, rest = divmod(given, unknown)
        if times >= 1 and rest == 0 and wanted % times == 0 and wanted > 0:
            return replaced(data, unknown, wanted // times)
    for unknown in unknowns(data, pictured=True):  # put beside other channels
        if given > unknown and wanted > given - unknown:
            return replaced(data, unknown, wanted - (given - unknown))
    return None


def _frames(data: Outline, wanted: int, config: dict[str, Any]) -> Outline | None:
    """With clips of the one length that the base takes, if its config tells it."""
    keys = [k for k, v in config.items() if v == wanted and FRAMES.search(k) and not isinstance(v, bool)]
    if not keys or data["latents"].get("clip_length") is not None:
        return None
    return {**data, "latents": {**data["latents"], "clip_length": keys[0]}}


def with_anchor(data: Outline, beyond: int) -> Outline:
    """With so many of the latents' channels as a condition beside the noisy frames."""
    data = copied(data)
    data["latents"]["channels"] -= beyond
    data["conditions"]["image_latents"] = {"shape": [beyond, "h", "w"]}
    return data


def with_length(data: Outline, key: str) -> Outline | None:
    """The outline with as many tokens of text as the config says there must be."""
    texts = [n for n, c in data["conditions"].items() if n.startswith("text") and c["shape"][:1] == ["n"]]
    if not texts:
        return None
    data = copied(data)
    for name in texts:
        data["conditions"][name]["shape"][0] = key
    return data


def unknowns(data: Outline, pictured: bool = False) -> list[int]:
    """The widths that are not known yet; `pictured`: only those of what is as large as a frame."""
    shapes = [c["shape"] for c in data["conditions"].values() if not pictured or "h" in c["shape"]]
    sizes = [data["latents"]["channels"], *(size for shape in shapes for size in shape)]
    return [size for size in sizes if size in UNKNOWN]


def replaced(data: Outline, unknown: int, value: int) -> Outline:
    data = copied(data)
    if data["latents"]["channels"] == unknown:
        data["latents"]["channels"] = value
    for condition in data["conditions"].values():
        condition["shape"] = [value if size == unknown else size for size in condition["shape"]]
    return data


def copied(data: Outline) -> Outline:
    conditions = {name: {**c, "shape": list(c["shape"])} for name, c in data["conditions"].items()}
    return {**data, "latents": dict(data["latents"]), "conditions": conditions}
