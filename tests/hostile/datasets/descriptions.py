"""meta/info.json."""

import json

from tests.hostile.datasets import Spoil, every
from tests.hostile.datasets.whole import CAMERA, INFO, MISSING, content, info

ODD = [None, True, -1, 0, 2**70, 1e300, float("nan"), "", "x", [], {}, [[]]]
FIELDS = ["codebase_version", "total_episodes", "total_frames", "fps", "data_path", "video_path", "features"]
TEMPLATES = [
    "{chunk_index:3000000000d}", "{chunk_index:099999d}", "{chunk_index:>3000000000}", "{chunk_index!r:0>9999999}",
    "{chunk_index.__class__}", "{video_key.__class__.__mro__[1]}", "{chunk_index.real}/{file_index}", "{chunk_index[0]}",
    "{chunk_index", "chunk_index}", "{}", "{0}", "{unknown}", "{chunk_index:s}", "{video_key:5}", "{chunk_index:{file_index}d}",
    "{{chunk_index}}", "/etc/passwd", "/{chunk_index}", "../{chunk_index}", "data/../../{chunk_index:03d}", "data",
    "data/./chunk-000/nothing.parquet", "data/\0", "x" * 5000, "\x1b[31m", "\ud800{chunk_index}", "data//../", ".", "..",
    "data\\{chunk_index}", "~/{chunk_index}", "https://example.com/{chunk_index}.mp4", "concat:a|b", "file:{chunk_index}",
]  # fmt: skip
CAMERAS = ["../x", "/x", "a/b", "", ".", "..", "x\x1b[31m", "a\0b", "\ud800", "x" * 5000, "a\nb"]


def camera(name: str) -> Spoil:
    """The camera has this name in info.json."""

    def renamed(text: bytes) -> bytes:
        description = json.loads(text)
        description["features"][name] = description["features"].pop(CAMERA)
        return json.dumps(description).encode()

    return content(INFO, renamed)


def insert(text: bytes) -> Spoil:
    """Text after the first brace."""
    return content(INFO, lambda whole: b"{" + text + b"," + whole.strip()[1:])


TEXTS: dict[str, Spoil] = {
    "is empty": content(INFO, lambda _: b""),
    "is a list": content(INFO, lambda _: b"[]"),
    "is null": content(INFO, lambda _: b"null"),
    "is cut": content(INFO, lambda text: text[:-20]),
    "has more after it": content(INFO, lambda text: text + b"{}"),
    "is UTF-16": content(INFO, lambda text: text.decode().encode("utf-16")),
    "is not UTF-8": content(INFO, lambda text: text.replace(b"none", b"n\xffne")),
    "has a key twice": insert(b'"fps": 9'),
    "has a feature twice": content(INFO, lambda text: text.replace(b'"action": {', b'"action": {}, "action": {')),
    "has NaN": insert(b'"unused": NaN'),
    "has Infinity": insert(b'"unused": [-Infinity]'),
    "has an endless number": content(INFO, lambda text: text.replace(b'"fps": 9', b'"fps": 1e999')),
    "has a number of 5,000 digits": insert(b'"unused": ' + b"9" * 5000),
    "is nested deeply": insert(b'"unused": ' + b"[" * 50_000 + b"]" * 50_000),
    "is nested too deeply to parse": insert(b'"unused": ' + b"[" * 900 + b'{"a":' * 20_000),
    "has 200,000 values": insert(b'"unused": [' + b"1," * 200_000 + b"1]"),
    "has 6 MB": insert(b'"unused": "' + b"x" * 6_000_000 + b'"'),
    "is of version 2.1": info("codebase_version", to="v2.1"),
    "is of a version that is a number": info("codebase_version", to=3),
    "has no camera": info("features", CAMERA, to=MISSING),
    "has a camera of pictures": info("features", CAMERA, "dtype", to="image"),
    "has a camera of depths": info("features", CAMERA, "info", "video.is_depth_map", to=True),
    "has a camera with depths said beside": info("features", CAMERA, "info", "is_depth_map", to=True),
    "has more episodes": info("total_episodes", to=4),
    "has fewer episodes": info("total_episodes", to=2),
    "has half an episode": info("total_episodes", to=2.5),
    "has more frames": info("total_frames", to=17),
    "has fewer frames": info("total_frames", to=15),
    "has other frames a second": info("fps", to=18),
    "has frames that take ages": info("fps", to=1e-9),
    "has a billion frames a second": info("fps", to=1e9),
    "has frames a second as a text": info("fps", to="9"),
}  # fmt: skip
SHAPES = [
    [],
    [2, 2],
    [-1],
    [0],
    [3],
    [1],
    [10**9],
    [2**70],
    ["2"],
    [2.5],
    [True],
    [None],
    [[2]],
    2,
    None,
    "2",
    {},
]
SIZES = [
    [], [16, 16], [16, 16, 0], [8, 16, 3], [16, 8, 3], [16, 32, 3], [-16, -16, 3], [10**9, 10**9, 3], [16, 16, 3, 1],
    [0, 0, 3], ["16", "16", "3"], [16.5, 16, 3], None, "16 16 3", {}, [16, 16, 17],
]  # fmt: skip
CASES = {
    **every("info.json", TEXTS),
    **{
        f"info.json {name} {value!r:.30}": info(name, to=value)
        for name in FIELDS
        for value in ODD
    },
    **{f"info.json without {name}": info(name, to=MISSING) for name in FIELDS},
    **{f"data_path {t!r:.50}": info("data_path", to=t) for t in TEMPLATES},
    **{f"video_path {t!r:.50}": info("video_path", to=t) for t in TEMPLATES},
    **{f"video_path ending in {s}": info("video_path", to=f"videos/{{video_key}}/{s}")
       for s in ("a.m3u8", "a.txt", "a.ffconcat", "a", "a.mp4/", "a.png", "a.sdp", "a.mpd")},
    **{f"camera {name!r:.40}": camera(name) for name in CAMERAS},
    **{f"action {value!r:.30}": info("features", "action", to=value) for value in [*ODD, MISSING]},
    **{f"action of shape {shape}": info("features", "action", "shape", to=shape) for shape in SHAPES},
    **{f"action of type {kind!r}": info("features", "action", "dtype", to=kind)
       for kind in ("string", "video", "image", "complex64", "object", "", None, 32, ["float32"])},
    **{f"frames of shape {shape}": info("features", CAMERA, "shape", to=shape) for shape in SIZES},
    **{f"a feature {value!r:.30}": info("features", "other", to=value) for value in ODD},
    **{f"an action's name {name!r:.20}": info("features", "action", "names", to=["x", name])
       for name in ("\x1b[31m", "x" * 100_000, "\ud800")},
}  # fmt: skip
"""All are to be refused."""
