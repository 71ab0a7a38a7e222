"""The formats that data sets may have. To add one: a module beside this file, and one line in `FORMATS`.

The module defines a `Format` (recognises and opens) and a `Dataset` (reads); nothing else changes.
"""

from v2w_convert.data.dataset import Format
from v2w_convert.data.formats.frames_folder import FramesFolderFormat
from v2w_convert.data.formats.hdf5 import Hdf5Format
from v2w_convert.data.formats.lerobot import LeRobotFormat
from v2w_convert.data.formats.rlds import RldsFormat

FORMATS: tuple[Format, ...] = (LeRobotFormat(), RldsFormat(), Hdf5Format(), FramesFolderFormat())
"""All formats; the first that matches a path opens it."""
