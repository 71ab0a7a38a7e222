"""Action vectors as features of a LeRobot data set, whose types declare what the numbers are.

Amounts are float32; a choice is one int64, whose names are those of the choices; keys are bool. `lerobot_actions` reads them.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.data.formats.lerobot_actions import ACTION
from v2w_convert.errors import V2WError

DTYPES = {"continuous": "float32", "discrete": "int64", "multi_binary": "bool"}
ARROW = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}


class StoredPart:
    """A part of an action vector as a feature.

    Attributes:
        key: The feature's name: "action", or action.NAME where there are several.
        width: How many numbers are stored for a frame.
        dtype: Of these numbers.
    """

    def __init__(self, part: ActionPart, place: slice, alone: bool):
        """Of the numbers at `place` of an action vector, which are all if it is `alone`."""
        self.part, self.place = part, place
        self.key = ACTION if alone else f"{ACTION}.{part.name.removeprefix(f'{ACTION}.')}"
        self.width, self.dtype = part.columns, DTYPES[part.kind]
        # lerobot stores a feature of one number as a number; amounts were always lists here, which it reads, too.
        self._plain = self.width == 1 and part.kind != "continuous"

    @property
    def feature(self) -> dict[str, Any]:
        """Its entry in info.json."""
        return {"dtype": self.dtype, "shape": [self.width], "names": list(self.part.labels)}

    @property
    def field(self) -> pa.Field:
        """Its column."""
        type_ = ARROW[self.dtype]
        return pa.field(self.key, type_ if self._plain else pa.list_(type_, self.width))

    @property
    def huggingface(self) -> dict[str, Any]:
        """Its type, as the library datasets names it."""
        value = {"dtype": self.dtype, "_type": "Value"}
        return value if self._plain else {"feature": value, "length": self.width, "_type": "Sequence"}

    def values(self, actions: NDArray[np.float32], asked: str) -> NDArray[Any]:
        """What is stored (t, width) of action vectors (t, a).

        Raises:
            V2WError: A choice is not one 1 among zeros, or a key is neither 0 nor 1.
        """
        given = actions[:, self.place]
        if self.part.kind == "continuous":
            return given
        good = ((given == 0) | (given == 1)).all(1)
        if self.part.kind == "discrete":
            good &= given.sum(1) == 1
        if not good.all():
            row = int(np.argmin(good))
            what = "one choice" if self.part.kind == "discrete" else "keys that are 0 or 1"
            raise V2WError(
                asked, f"row {row} of {self.part.name!r}: {given[row].tolist()!s:.200}, not {what}"
            )
        return given.argmax(1)[:, None] if self.part.kind == "discrete" else given.astype(bool)

    def column(self, values: NDArray[Any]) -> pa.Array:
        """What `values` returned, as a column."""
        flat = pa.array(values.ravel(), ARROW[self.dtype])
        return flat if self._plain else pa.FixedSizeListArray.from_arrays(flat, self.width)


def stored_parts(space: ActionSpace, asked: str) -> list[StoredPart]:
    """All parts, in their order.

    Raises:
        V2WError: Two have the same name.
    """
    found = [StoredPart(part, place, len(space.parts) == 1) for part, place in space.slices]
    keys = [one.key for one in found]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise V2WError(asked, f"two parts of the action are called {twice!r}")
    return found
