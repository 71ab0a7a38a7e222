"""What `play` prints when it begins: plain data, whose names are the keys of the JSON."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PlayResult:
    """Where the page is.

    Attributes:
        url: The page's address.
        world: Name of the model's folder.
        data: Name of the data set whose episodes visits begin from; empty for starts that are kept with the model.
        starts: How many there are to choose from.
        actions: A name for each number of an action.
        fps: Frames a second of the data.
        visitors: How many may be there at once.
    """

    url: str
    world: str
    data: str
    starts: int
    actions: list[str]
    fps: float
    visitors: int
