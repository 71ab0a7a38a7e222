"""Recorded episodes: what a camera saw and which actions were taken.

Use :func:`open_dataset` to read a data set of any supported format, and :func:`write_dataset` to write one.
To add a format, add a module to :mod:`v2w_convert.data.formats` and one line to its `FORMATS`.

Names are imported when they are first used, so that `data.settings`, of which flags are made, comes without the
libraries that read files.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2w_convert.data.dataset import Dataset, Format
    from v2w_convert.data.episode import Episode
    from v2w_convert.data.open import open_dataset, write_dataset
    from v2w_convert.data.settings import DataSettings

_HOME = {
    "DataSettings": "settings",
    "Dataset": "dataset",
    "Episode": "episode",
    "Format": "dataset",
    "open_dataset": "open",
    "write_dataset": "open",
}

__all__ = ["DataSettings", "Dataset", "Episode", "Format", "open_dataset", "write_dataset"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
