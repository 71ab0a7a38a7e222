"""What was understood of a data set: counts, sizes, rates, ranges of actions, and the faults that were found."""

import statistics
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from v2w_convert.data.check import ActionRanges, left_out, read_ranges, told
from v2w_convert.data.contact_sheet import Row, row_of, write_sheet
from v2w_convert.data.dataset import Dataset
from v2w_convert.data.describe_settings import DescribeSettings
from v2w_convert.data.open import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.progress import Pace, Progress, ProgressEvent, no_progress

MAX_TASKS = 20  # that are listed


@dataclass(frozen=True)
class ActionNumber:
    """One number of an action, over all actions that lead to a frame.

    Attributes:
        name: Its name.
        kind: What it is part of: "continuous", amounts; "discrete", a choice, of which one number is 1; "multi_binary",
            keys, each 0 or 1.
        min: The smallest value; None where no action is sound.
        max: The largest.
        mean: The mean.
        std: The standard deviation; 0 of a number that never changes.
    """

    name: str
    kind: str
    min: float | None
    max: float | None
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class DataDescription:
    """A data set as the commands read it.

    Attributes:
        path: Where it lies.
        format: What its format is called.
        episodes: How many episodes there are.
        frames: Frames of all of them together, as many as are used.
        seconds: How long they last together.
        shortest: Frames of the shortest episode.
        median: Frames of the median episode.
        longest: Frames of the longest episode.
        fps: Frames per second, as they are used.
        height: Of the frames, as they are used; None where none can be decoded.
        width: The same.
        camera: Whose frames are read.
        cameras: All that there are.
        actions: Each number of an action.
        tasks: What is being done, in words: each once, the first 20.
        decoded: Episodes whose frames were decoded, to look for faults.
        faults: What is wrong: what stops a training run.
        notes: What is worth knowing.
        sheet: The contact sheet that was written, if any.
        settings: The settings that were used.
    """

    path: Path
    format: str
    episodes: int
    frames: int
    seconds: float
    shortest: int
    median: float
    longest: int
    fps: float
    height: int | None
    width: int | None
    camera: str
    cameras: list[str]
    actions: list[ActionNumber]
    tasks: list[str]
    decoded: int
    faults: list[str]
    notes: list[str]
    settings: DescribeSettings
    sheet: Path | None = field(default=None)

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults


def describe(
    path: Path,
    settings: DescribeSettings | None = None,
    sheet: Path | None = None,
    progress: Progress = no_progress,
) -> DataDescription:
    """Read a data set's description and all actions, and decode some episodes or all.

    Args:
        path: A data set that `open_dataset` reads.
        settings: How to read it, and how much to decode.
        sheet: A new .png file: some frames of the first episodes, their actions drawn below them.
        progress: Called after each episode that is decoded.

    Raises:
        V2WError: It cannot be opened, or `sheet` cannot be written or is there.
    """
    settings = settings or DescribeSettings()
    asked = f"write a contact sheet to {sheet}"
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise V2WError(asked, f"suffix {sheet.suffix!r}", ".png")
    if sheet is not None and sheet.exists():
        raise V2WError(asked, "the file exists", "another name")
    data = open_dataset(path, settings)
    lengths, faults = data.lengths, []
    if not lengths:
        raise V2WError(f"read the data set {path}", "it has no episode")
    ranges: ActionRanges | None = None
    try:
        ranges = read_ranges(data)
        faults += ranges.all_faults()
    except V2WError as error:
        faults.append(str(error))
    rows: list[Row] = []
    size: tuple[int, ...] | None = None
    decoded = 0
    wanted = len(data) if settings.decode == "all" else min(settings.episodes, len(data))
    pace = Pace(0, wanted)
    try:
        for episode in islice(data.episodes(), wanted):
            if size is not None and size != episode.frames.shape[1:3]:
                h, w = episode.frames.shape[1:3]
                found = f"episode {decoded} has frames of {h} x {w}, those before it of {size[0]} x {size[1]}"
                faults.append(f"{found}: give --height and --width")
            size = size or episode.frames.shape[1:3]
            if sheet is not None and len(rows) < settings.episodes:
                rows.append(row_of(episode, decoded, data, ranges, settings.columns))
            decoded += 1
            progress(ProgressEvent("decode", decoded, wanted, seconds_left=pace.seconds_left(decoded)))
    except V2WError as error:
        if str(error) not in faults:
            faults.append(str(error))
    drawn = sheet if sheet is not None and _draw(rows, data, sheet) else None
    notes = [*([] if ranges is None or ranges.faults else told(ranges)), *left_out(data)]
    if decoded < len(data):
        notes.append(
            f"frames of {decoded} of {len(data)} episodes were decoded; --decode all looks at every one"
        )
    return DataDescription(
        path=path,
        format=data.format,
        episodes=len(data),
        frames=sum(lengths),
        seconds=sum(lengths) / data.fps,
        shortest=min(lengths),
        median=statistics.median(lengths),
        longest=max(lengths),
        fps=data.fps,
        height=size[0] if size else None,
        width=size[1] if size else None,
        camera=data.camera,
        cameras=list(data.cameras),
        actions=_numbers(data, ranges),
        tasks=_tasks(data, faults),
        decoded=decoded,
        faults=faults,
        notes=notes,
        settings=settings,
        sheet=drawn,
    )


def _numbers(data: Dataset, ranges: ActionRanges | None) -> list[ActionNumber]:
    kinds = [part.kind for part in data.action_space.parts for _ in range(part.size)]
    found = []
    for i, (name, kind) in enumerate(zip(data.action_names, kinds, strict=True)):
        values: list[float | None] = [None] * 4
        if ranges is not None and ranges.count:
            values = [float(x[i]) for x in (ranges.low, ranges.high, ranges.mean, ranges.std)]
        found.append(ActionNumber(name, kind, *values))
    return found


def _tasks(data: Dataset, faults: list[str]) -> list[str]:
    try:
        return list(dict.fromkeys(text for texts in data.tasks for text in texts))[:MAX_TASKS]
    except V2WError as error:
        if str(error) not in faults:
            faults.append(str(error))
        return []


def _draw(rows: list[Row], data: Dataset, sheet: Path) -> bool:
    """Write the sheet, if there is anything on it."""
    if rows:
        write_sheet(rows, data.action_names, sheet)
    return bool(rows)
