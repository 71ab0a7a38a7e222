"""Single pictures, PNG or JPEG, opened as what they are and in no other way, of a size that is known before they are decoded."""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_convert.data.validation.videos import check_size
from v2w_convert.errors import V2WError, one_line

FORMATS = ("PNG", "JPEG")
SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1")  # eight bits a channel; depth pictures have more
MAX_BYTES = 2**28
FAULTS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    MemoryError,
    OverflowError,
    Warning,
    Image.DecompressionBombError,
)
TRY = "download or record the data again"


def picture_size(source: Path | bytes, asked: str) -> tuple[int, int]:
    """Height and width, without decoding.

    Args:
        source: A regular file, see `files.file_in`, or its content.
        asked: What is being done, for the error message.

    Raises:
        V2WError: It is no such picture, or absurdly large.
    """
    return _read(source, asked, decode=False).shape[:2]


def read_picture(source: Path | bytes, asked: str) -> NDArray[np.uint8]:
    """The picture (height, width, 3) in RGB; transparency is left out.

    Args and errors as of `picture_size`; what is damaged is refused, too.
    """
    return _read(source, asked, decode=True)


def _read(source: Path | bytes, asked: str, decode: bool) -> NDArray[np.uint8]:
    try:
        if isinstance(source, Path) and source.stat().st_size > MAX_BYTES:
            raise ValueError(f"{source.stat().st_size} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(
                io.BytesIO(source) if isinstance(source, bytes) else source, "r", FORMATS
            ) as picture:
                check_size(picture.height, picture.width)
                if picture.mode not in MODES:
                    raise ValueError(f"its pixels are of type {picture.mode}, not colours of 8 bits")
                if not decode:
                    return np.broadcast_to(np.uint8(0), (picture.height, picture.width, 3))
                return np.array(picture.convert("RGB"))
    except FAULTS as error:
        raise V2WError(asked, f"it is damaged or no PNG or JPEG ({one_line(error)})", TRY) from None
