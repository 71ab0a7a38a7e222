"""Candidates for a call, and how they are adjusted by the error messages of the base's forward.

A candidate is a `Call` as plain data. Widths that are not known yet are prime numbers that occur nowhere else, so that
an error message about one of them says which width is wrong, and often what it should be.
"""

import re
from typing import Any

# No width of a model is one of these.
PLACEHOLDERS = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157)
FRAMES_KEY = re.compile(r"frame|video|length|temporal")

Candidate = dict[str, Any]

MESSAGES = (
    # (two numbers: given, then expected unless they are named; whether they may also be the other way round)
    (r"\((?:\d+)x(\d+) and (\d+)x\d+\)", False),
    (r"to have (?P<expected>\d+) channels, but got (?P<given>\d+) channels", False),
    (r"normalized_shape=\[(?P<expected>\d+)\].* size ?\[[\d, ]*?(?P<given>\d+)\]", False),
    (r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\)", True),
    (r"Expected size (\d+) but got size (\d+)", True),
)


def adjust(candidate: Candidate, message: str, config: dict[str, Any], t: int) -> Candidate | None:
    """The candidate with one width or its number of frames corrected.

    Args:
        candidate: What was called.
        message: The error that the forward raised.
        config: The base's.
        t: Frames of the clips that were given.

    Returns:
        None if the message does not say what to correct.
    """
    for pattern, symmetric in MESSAGES:
        found = re.search(pattern, message)
        if found is None:
            continue
        named = found.groupdict()
        given, expected = map(int, (named["given"], named["expected"]) if named else found.groups())
        for a, b in [(given, expected), (expected, given)] if symmetric else [(given, expected)]:
            adjusted = _adjust_width(candidate, a, b)
            if adjusted is None and symmetric and a == t:
                adjusted = _adjust_frames(candidate, b, config)
            if adjusted is not None:
                return adjusted
    return None


def _adjust_width(candidate: Candidate, given: int, expected: int) -> Candidate | None:
    for placeholder in placeholders(candidate):
        times, rest = divmod(given, placeholder)
        if times >= 1 and rest == 0 and expected % times == 0 and expected > 0:
            return with_width(candidate, placeholder, expected // times)
    for placeholder in placeholders(candidate, spatial=True):  # concatenated to other channels
        if given > placeholder and expected > given - placeholder:
            return with_width(candidate, placeholder, expected - (given - placeholder))
    return None


def _adjust_frames(candidate: Candidate, expected: int, config: dict[str, Any]) -> Candidate | None:
    """With the one clip length that the base takes, if a key of its config has that value."""
    keys = [
        key
        for key, value in config.items()
        if value == expected and FRAMES_KEY.search(key) and not isinstance(value, bool)
    ]
    if not keys or candidate["latents"].get("clip_length") is not None:
        return None
    return {**candidate, "latents": {**candidate["latents"], "clip_length": keys[0]}}


def with_image_latents(candidate: Candidate, channels: int) -> Candidate:
    """With so many of the latents' channels as a condition besides the noisy frames."""
    adjusted = copy_candidate(candidate)
    adjusted["latents"]["channels"] -= channels
    adjusted["conditions"]["image_latents"] = {"shape": [channels, "h", "w"]}
    return adjusted


def with_text_length(candidate: Candidate, key: str) -> Candidate | None:
    """With as many tokens of text as the key of the config says; None if no condition is text."""
    adjusted = copy_candidate(candidate)
    texts = [
        condition
        for name, condition in adjusted["conditions"].items()
        if name.startswith("text") and condition["shape"][:1] == ["n"]
    ]
    for condition in texts:
        condition["shape"][0] = key
    return adjusted if texts else None


def placeholders(candidate: Candidate, spatial: bool = False) -> list[int]:
    """The widths that are not known yet; `spatial`: only those of conditions as large as a frame."""
    shapes = [c["shape"] for c in candidate["conditions"].values() if not spatial or "h" in c["shape"]]
    sizes = [candidate["latents"]["channels"], *(size for shape in shapes for size in shape)]
    return [size for size in sizes if size in PLACEHOLDERS]


def with_width(candidate: Candidate, placeholder: int, width: int) -> Candidate:
    """With a width in place of a placeholder."""
    adjusted = copy_candidate(candidate)
    if adjusted["latents"]["channels"] == placeholder:
        adjusted["latents"]["channels"] = width
    for condition in adjusted["conditions"].values():
        condition["shape"] = [width if size == placeholder else size for size in condition["shape"]]
    return adjusted


def copy_candidate(candidate: Candidate) -> Candidate:
    """A copy whose latents and conditions can be changed."""
    conditions = {name: {**c, "shape": list(c["shape"])} for name, c in candidate["conditions"].items()}
    return {**candidate, "latents": dict(candidate["latents"]), "conditions": conditions}
