"""RLDS data sets, spoiled: records and messages that lie about their lengths, features that lie about the records."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.rlds import NAME, example, framed, lists, masked, png, sized, varint
from tests.data.rlds import write as write
from tests.hostile.datasets import Spoil, every
from tests.hostile.datasets.places import KINDS, in_place, linked

FIRST, LAST = NAME.format(0, 2), NAME.format(1, 2)
LENGTH = (2).to_bytes(8, "little")


def content(make: Callable[[bytes], bytes]) -> Spoil:
    """The file of the last episode, of other bytes."""
    return lambda folder: (folder / LAST).write_bytes(make((folder / LAST).read_bytes()))


def record(made: bytes) -> Spoil:
    """Another record there, with its checksums."""
    return content(lambda _: framed(made))


def head(length: int) -> bytes:
    """The head of a record of this length."""
    said = length.to_bytes(8, "little")
    return said + masked(said)


def list_(name: str, values: Any) -> Spoil:
    """Another list in the last episode, of two steps."""
    return record(example(lists()[-1] | {f"steps/{name}": values}))


def without(name: str) -> Spoil:
    return record(example({key: value for key, value in lists()[-1].items() if key != f"steps/{name}"}))


def entry(name: bytes, feature: bytes) -> bytes:
    """An Example of one entry."""
    return sized(1, sized(1, sized(1, name) + sized(2, feature)))


def described(*path: str, to: Any) -> Spoil:
    """Another value in features.json, below the steps' features; or anywhere, below "." """

    def spoil(folder: Path) -> None:
        said = json.loads((folder / "features.json").read_text())
        at = said if path[0] == "." else said["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        for key in path[path[0] == "." : -1]:
            at = at[key]
        at[path[-1]] = to
        (folder / "features.json").write_text(json.dumps(said))

    return spoil


def info(to: Any) -> Spoil:
    return lambda folder: (folder / "dataset_info.json").write_text(json.dumps(to))


IMAGE = ("featuresDict", "features", "observation", "featuresDict", "features", "image", "image")
ACTION = ("featuresDict", "features", "action", "tensor")
ODD = [None, 3, [], "x", -1, 1.5, True, 10**12]
BOMB = [png(np.zeros((2, 2, 3), np.uint8))[:16] + (2**30).to_bytes(4, "big") * 2] * 2

CASES: dict[str, Spoil] = {
    **{f"a record file is {kind}": in_place(FIRST, make) for kind, make in KINDS.items()},
    **{f"features.json is {kind}": in_place("features.json", make) for kind, make in KINDS.items()},
    "a record file is linked from outside": linked(FIRST),
    "features.json is linked from outside": linked("features.json"),
    "dataset_info.json is linked from outside": linked("dataset_info.json"),
    "records: none": lambda folder: [(folder / name).write_bytes(b"") for name in (FIRST, LAST)],
    "records: zeros": content(lambda _: bytes(100)),
    "records: cut within the head": content(lambda data: data[:10]),
    "records: cut within the content": content(lambda data: data[:-5]),
    "records: one byte more": content(lambda data: data + b"x"),
    "records: another length": content(lambda data: LENGTH + data[8:]),
    "records: 2^63 bytes": content(lambda data: head(2**63) + data[12:]),
    "records: longer than the file": content(lambda data: head(len(data)) + data[12:]),
    "records: content that its checksum is not of": content(lambda data: data[:40] + b"?" + data[41:]),
    "records: another checksum": content(lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "message: nothing": record(b""),
    "message: no Example": record(b"hello, world"),
    "message: a group": record(varint(1 << 3 | 3)),
    "message: field 0": record(varint(2) + b"\0"),
    "message: a number that does not end": record(b"\x0a" + b"\xff" * 20),
    "message: a field longer than the record": record(b"\x0a" + varint(2**40)),
    "message: a field of 2^64 bytes": record(b"\x0a" + varint(2**64 - 1)),
    "message: an entry without a name": record(sized(1, sized(1, sized(2, b"")))),
    "message: a name that is no text": record(entry(b"\xff\xfe", b"")),
    "message: a name twice": record(2 * example(lists()[-1])),
    "message: 20,000 names": record(example({f"x{i}": [] for i in range(20_000)})),
    "list: of an unknown kind": record(entry(b"steps/observation/image", sized(4, b""))),
    "list: a number in its place": record(entry(b"steps/observation/image", varint(1 << 3) + b"\1")),
    "pictures: none": list_("observation/image", []),
    "pictures: not there": without("observation/image"),
    "pictures: numbers": list_("observation/image", np.zeros(2, "f4")),
    "pictures: no pictures": list_("observation/image", [b"GIF89a"] * 2),
    "pictures: the second none": list_("observation/image", [png(np.zeros((16, 16, 3), "u1")), b"x"]),
    "pictures: of two sizes": list_(
        "observation/image", [png(np.zeros((side, 16, 3), np.uint8)) for side in (16, 8)]
    ),
    "pictures: a bomb": list_("observation/image", BOMB),
    "pictures: more than actions": list_("observation/image", lists()[0]["steps/observation/image"]),
    "actions: not there": without("action"),
    "actions: bytes": list_("action", [b"12"] * 2),
    "actions: other numbers": list_("action", np.zeros(5, "f4")),
    "actions: NaN": list_("action", np.array([0, np.nan, 0, 0], "f4")),
    "actions: infinite": list_("action", np.array([0, np.inf, 0, 0], "f4")),
    "actions: end within a number": record(
        example({"steps/observation/image": lists()[-1]["steps/observation/image"]})
        + entry(b"steps/action", sized(2, sized(1, b"123")))
    ),
    "text: no UTF-8": list_("language_instruction", [b"\xff"] * 2),
    "text: 1 MB": list_("language_instruction", [b"x" * 10**6] * 2),
    "splits: two": lambda folder: (folder / LAST).rename(folder / "walks-val.tfrecord-00000-of-00001"),
    "splits: a file is missing": lambda folder: (folder / FIRST).unlink(),
    "splits: none": lambda folder: [(folder / name).unlink() for name in (FIRST, LAST)],
    **every("splits: lengths", {f"{odd!r}": info({"splits": [{"name": "train", "shardLengths": [odd]}]})
                                for odd in (7, "7", "x", None, [], -3, 1.5, "9" * 5000)}),
    **every("no image but", {f"{odd!r}": described(*IMAGE[:-1], to={"image": odd}) for odd in ODD}),
    **every("image: shape", {f"{odd!r}": described(*IMAGE, "shape", to=odd) for odd in ODD}),
    **every("image: a size", {f"{odd!r}": described(*IMAGE, "shape", to={"dimensions": [odd, 16, 3]})
                              for odd in ["x", None, [], 1.5, True, "9" * 30, "-7"]}),
    **every("action: shape", {f"{odd!r}": described(*ACTION, "shape", to=odd) for odd in ODD}),
    **every("action: a size", {f"{odd!r}": described(*ACTION, "shape", to={"dimensions": [odd]})
                               for odd in ["0", "3", "x", None, 10**12, "99999"]}),
    **every("action: of type", {odd: described(*ACTION, "dtype", to=odd) for odd in ("string", "", "complex64")}),
    "action: packed": described(*ACTION, "encoding", to="zlib"),
    **every("steps:", {f"{odd!r}": described(".", "featuresDict", "features", "steps", to=odd) for odd in ODD}),
    "steps: a plain sequence": described(".", "featuresDict", "features", "steps", "pythonClassName", to="Sequence"),
    "features: a name that turns the line": described(
        "featuresDict", "features", "\u202ex", to={"text": {}}
    ),
}  # fmt: skip
