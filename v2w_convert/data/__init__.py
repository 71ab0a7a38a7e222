"""Recorded episodes: what a camera saw and which actions were taken.

Use :func:`open_dataset` to read a data set of any supported format, and :func:`write_dataset` to write one.
To add a format, add a module to :mod:`v2w_convert.data.formats` and one line to its `FORMATS`.
"""

from v2w_convert.data.dataset import Dataset, Format
from v2w_convert.data.episode import Episode
from v2w_convert.data.open import open_dataset, write_dataset

__all__ = ["Dataset", "Episode", "Format", "open_dataset", "write_dataset"]
