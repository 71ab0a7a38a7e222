"""Folders of recordings, spoiled: tables, videos and pictures that are not what they say, links, pipes and devices."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.coloured import episodes
from tests.data.recordings import folder_of_videos, pictures, table
from tests.hostile.datasets import Spoil
from tests.hostile.datasets.places import KINDS, in_place, linked

VIDEO, TABLE, PICTURES = "clip_2.mp4", "clip_10.csv", "walk"
FILES = (VIDEO, TABLE, f"{PICTURES}/frame_1.png", f"{PICTURES}/actions.csv")
FPS = 9


def write(folder: Path) -> Path:
    """Three videos, and pictures, which are given the rate of the videos by --fps."""
    folder_of_videos(folder)
    for file in folder.glob("clip_*[!2].*"):
        if file.stem != "clip_10":
            file.unlink()
    return folder


def write_pictures(folder: Path) -> Path:
    folder.mkdir()
    pictures(folder / PICTURES, episodes()[0].frames)
    table(folder / PICTURES / "actions.csv", episodes()[0].actions)
    return folder


def holds(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def table_of(text: str) -> Spoil:
    return holds(TABLE, text.encode())


def instead(suffix: str, content: bytes) -> Spoil:
    """Another table of clip_10."""

    def spoil(folder: Path) -> None:
        (folder / TABLE).unlink()
        (folder / TABLE).with_suffix(suffix).write_bytes(content)

    return spoil


def npz(entry: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("actions.npy", entry)
    return made.getvalue()


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array(made, array, allow_pickle=allow_pickle)
    return made.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """The head of a picture of this size, and next to nothing else."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 9))
        + chunk(b"IEND", b"")
    )


def packed(kind: str, mode: str = "RGB") -> bytes:
    made = io.BytesIO()
    Image.new(mode, (16, 16)).save(made, kind)
    return made.getvalue()


def cut(name: str, share: float) -> Spoil:
    return lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * share))


ROWS = "x,y\n" + "1,2\n" * 8
VIDEOS: dict[str, Spoil] = {
    **{f"{name} is {kind}": in_place(name, make) for name in FILES[:2] for kind, make in KINDS.items()},
    **{f"{name} is linked from outside": linked(name) for name in FILES[:2]},
    "table: bytes that are no text": holds(TABLE, b"x,y\n\xff\xfe,1\n"),
    "table: zeros": holds(TABLE, b"\0" * 999),
    "table: a picture": holds(TABLE, packed("PNG")),
    "table: an open quotation": table_of(ROWS + '"1,2\n'),
    "table: a cell of a million characters": table_of("x,y\n" + "1" * 1_000_000 + ",2\n"),
    "table: a million names": table_of(",".join(f"c{i}" for i in range(1_000_000)) + "\n1\n"),
    "table: a name that clears the screen": table_of("x,\x1b[2J\n" + "1,2\n" * 9),
    "table: a name of 300 characters": table_of("x," + "y" * 300 + "\n" + "1,2\n" * 9),
    "table: an empty name": table_of("x,\n" + "1,2\n" * 9),
    "table: 1_000": table_of(ROWS + "1_000,2\n"),
    "table: inf": table_of(ROWS + "inf,2\n"),
    "table: 1e999": table_of(ROWS + "1e999,2\n"),
    "table: nan": table_of(ROWS + "nan,2\n"),
    "table: hexadecimal": table_of(ROWS + "0x10,2\n"),
    "table: a formula": table_of(ROWS + "=1+1,2\n"),
    "table: more rows": table_of(ROWS + "1,2\n" * 9),
    "table: two of them": holds("clip_10.jsonl", b'{"action": [1, 2]}\n' * 9),
    "JSON Lines: NaN": instead(".jsonl", b'{"x": NaN}\n' * 9),
    "JSON Lines: 1e999": instead(".jsonl", b'{"x": 1e999}\n' * 9),
    "JSON Lines: a key twice": instead(".jsonl", b'{"x": 1, "x": 2}\n' * 9),
    "JSON Lines: nested": instead(".jsonl", b'{"x": ' + b"[" * 9999 + b"]" * 9999 + b"}\n"),
    "JSON Lines: lists in lists": instead(".jsonl", b'{"x": [[1], [2]]}\n' * 9),
    "JSON Lines: nothing": instead(".jsonl", b'{"x": null}\n' * 9),
    "JSON Lines: other keys": instead(".jsonl", b'{"x": 1}\n' * 8 + b'{"y": 1}\n'),
    "JSON Lines: longer lists": instead(".jsonl", b'{"x": [1]}\n' * 8 + b'{"x": [1, 2]}\n'),
    "JSON Lines: no objects": instead(".jsonl", b"[1, 2]\n" * 9),
    "npz: a pickle": instead(".npz", npz(npy(np.array([print], object), allow_pickle=True))),
    "npz: texts": instead(".npz", npz(npy(np.array(["left"] * 9)))),
    "npz: NaN": instead(".npz", npz(npy(np.full((9, 2), np.nan)))),
    "npz: more than there is": instead(".npz", npz(npy(np.zeros((9, 2))).replace(b"(9, 2)", b"(9999, 2)"))),
    "npz: one number": instead(".npz", npz(npy(np.zeros(())))),
    "npz: another name": instead(".npz", npz(npy(np.zeros((9, 2)))).replace(b"actions.npy", b"actionz.npy")),
    "npz: no zip": instead(".npz", b"PK\3\4" + b"\0" * 99),
    "video: a concat script": holds(VIDEO, b"ffconcat version 1.0\nfile /etc/passwd\n"),
    "video: a playlist": holds(VIDEO, b"#EXTM3U\n#EXTINF:1\nfile:///etc/passwd\n"),
    "video: a picture": holds(VIDEO, packed("PNG")),
    "video: half of it": cut(VIDEO, 0.5),
    "video: nothing": holds(VIDEO, b""),
}
PICTURE = f"{PICTURES}/frame_1.png"
PICTURE_CASES: dict[str, Spoil] = {
    **{f"{name} is {kind}": in_place(name, make) for name in FILES[2:] for kind, make in KINDS.items()},
    **{f"{name} is linked from outside": linked(name) for name in (*FILES[2:], PICTURES)},
    "picture: 60,000 x 60,000": holds(f"{PICTURES}/frame_0.png", png(60_000, 60_000)),
    "picture: 60,000 x 60,000 later": holds(PICTURE, png(60_000, 60_000)),
    "picture: 1 x 33 million": holds(PICTURE, png(1, 33_000_000)),
    "picture: 16 bits": holds(PICTURE, packed("PNG", "I;16")),
    "picture: another size": holds(PICTURE, png(17, 16)),
    "picture: a GIF": holds(PICTURE, packed("GIF")),
    "picture: a TIFF": holds(PICTURE, packed("TIFF")),
    "picture: an EPS": holds(PICTURE, packed("EPS")),
    "picture: half of it": cut(PICTURE, 0.5),
    "picture: its head alone": holds(PICTURE, png(16, 16)[:33]),
    "picture: too few rows": holds(PICTURE, png(16, 16)),
    "picture: nothing": holds(PICTURE, b""),
}
del VIDEOS[f"{VIDEO} is not there"]  # a table alone is no recording
del PICTURE_CASES[f"{PICTURE} is not there"]  # of five rows, one may be of the last frame
