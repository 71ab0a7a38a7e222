"""RLDS data sets as tensorflow_datasets writes them, written without it; the recorded one is by itself."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.data.coloured import episodes
from v2w_convert.data.validation.crc32c import crc32c

Lists = Mapping[str, Sequence[bytes] | np.ndarray]
CAMERA, NAME = "observation/image", "walks-train.tfrecord-{:05d}-of-{:05d}"


def image(*shape: int, dtype: str = "uint8") -> dict[str, Any]:
    return {
        "image": {"shape": {"dimensions": list(map(str, shape))}, "dtype": dtype, "encodingFormat": "png"}
    }


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    return {"tensor": {"shape": {"dimensions": list(map(str, shape))}, "dtype": dtype, "encoding": "none"}}


def features(step: dict[str, Any]) -> dict[str, Any]:
    """The content of features.json for steps of these features."""
    steps = {"pythonClassName": "tensorflow_datasets.core.features.dataset_feature.Dataset"}
    inner = {"sequence": {"feature": {"featuresDict": {"features": step}}, "length": "-1"}}
    return {"featuresDict": {"features": {"steps": {**steps, **inner}}}}


STEP = {
    "observation": {"featuresDict": {"features": {"image": image(16, 16, 3)}}},
    "action": tensor("float32", 2),
    "language_instruction": {"text": {}},
}


def png(frame: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return stream.getvalue()


def varint(number: int) -> bytes:
    made = []
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def sized(number: int, content: bytes) -> bytes:
    """A field of a message of protocol buffers."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(lists: Lists) -> bytes:
    """A tf.train.Example: bytes, floats and whole numbers by name."""
    entries = b""
    for name, values in lists.items():
        if not isinstance(values, np.ndarray):
            made = sized(1, b"".join(sized(1, entry) for entry in values))
        elif values.dtype.kind == "f":
            made = sized(2, sized(1, values.astype("<f4").tobytes()))
        else:
            made = sized(3, sized(1, b"".join(varint(int(v) % 2**64) for v in values.ravel())))
        entries += sized(1, sized(1, name.encode()) + sized(2, made))
    return sized(1, entries)


def masked(part: bytes) -> bytes:
    """A checksum as TFRecord files have it."""
    crc = crc32c(part)
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def framed(content: bytes) -> bytes:
    """A record of a TFRecord file."""
    length = len(content).to_bytes(8, "little")
    return length + masked(length) + content + masked(content)


def lists() -> list[dict[str, Any]]:
    """The coloured episodes."""
    return [
        {
            "steps/observation/image": [png(frame) for frame in episode.frames],
            "steps/action": episode.actions,
            "steps/language_instruction": [b"walk"] * len(episode),
        }
        for episode in episodes()
    ]


def write(folder: Path, made: Sequence[bytes] | None = None, step: dict[str, Any] = STEP) -> Path:
    """Two files, of which the first has all but one of the episodes."""
    folder.mkdir()
    made = made if made is not None else [example(each) for each in lists()]
    (folder / "features.json").write_text(json.dumps(features(step)))
    counts = [str(len(made) - 1), "1"]
    info = {"name": "walks", "fileFormat": "tfrecord", "splits": [{"name": "train", "shardLengths": counts}]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for number, some in enumerate((made[:-1], made[-1:])):
        (folder / NAME.format(number, 2)).write_bytes(b"".join(map(framed, some)))
    return folder
