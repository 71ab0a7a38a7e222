"""A folder of an evaluation: videos and frames as they come, then the figures and a page.

figures.json    all figures; `docs/schemas/evaluate.schema.json` describes it
report.html     one self-contained page
videos/         recorded | rollout | rollout with other actions, at the data's rate
frames/         if asked for: all frames as PNG, by what they are, recorded ones under the same names
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.context import EvaluationContext
from v2w_convert.evaluation.pictures import write_png, write_video
from v2w_convert.evaluation.report.page import page
from v2w_convert.evaluation.result import EvaluateResult
from v2w_convert.evaluation.rolled_batch import RolledBatch
from v2w_convert.evaluation.rollout_video import side_by_side
from v2w_convert.new_file import ADVICE, disk_error, write_text
from v2w_convert.processes import ALONE, Processes
from v2w_convert.to_json import result_json
from v2w_convert.world.vae import as_uint8

TITLES = ["recorded", "rollout", "other actions"]


class Report:
    """Writes into a folder.

    Attributes:
        folder: Where.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, context: EvaluationContext) -> None:
        """Make the folders; of several processes each does this."""
        self._context = context
        (self.folder / "videos").mkdir(exist_ok=True)
        if context.settings.save_frames:
            (self.folder / "frames").mkdir(exist_ok=True)

    def add(self, batch: RolledBatch) -> None:
        """Write the videos and frames of some clips."""
        for i, clip in enumerate(batch.rows.tolist()):
            if clip < self._context.settings.videos:
                self._write_video(batch, i, clip)
        if self._context.settings.save_frames:
            series = {"recorded": batch.truth, **batch.compared}
            del series["mean"], series["last_frame_copied"]
            for name, frames in series.items():
                self._write_frames(name, frames, batch.rows.tolist())

    def end(self, result: EvaluateResult) -> None:
        """Write the figures and the page."""
        write_text(self.folder / "figures.json", result_json(result, indent=1) + "\n")
        clips = self._context.clips.episode[: self._context.settings.videos].tolist()
        videos = {
            f"clip {clip}, of episode {episode}": self._video(clip).read_bytes()
            for clip, episode in enumerate(clips)
        }
        write_text(self.folder / "report.html", page(result, videos))

    def _write_video(self, batch: RolledBatch, i: int, clip: int) -> None:
        recorded = as_uint8(batch.recorded[i])
        observed = list(recorded[: batch.history])
        panels = [
            list(recorded),
            *(observed + list(as_uint8(frames[i])) for frames in (batch.samples[0], batch.other)),
        ]
        shown = [list(frames) for frames in zip(*panels, strict=True)]
        write_video(side_by_side(TITLES, shown), self._video(clip), self._context.fps)

    def _video(self, clip: int) -> Path:
        return self.folder / "videos" / f"clip-{clip:04d}.mp4"

    def _write_frames(self, name: str, frames: Tensor, clips: list[int]) -> None:
        folder = self.folder / "frames" / name
        folder.mkdir(exist_ok=True)
        for clip, own in zip(clips, frames, strict=True):
            for number, picture in enumerate(as_uint8(own), 1):
                write_png(picture, folder / f"clip-{clip:04d}-frame-{number:04d}.png")


@contextmanager
def report_folder(target: Path, processes: Processes = ALONE) -> Iterator[Report]:
    """A report whose folder becomes `target` when the block ends without an exception; else nothing is left of it.

    Several processes write into one folder, which the first makes and names.

    Raises:
        V2WError: `target` is there, or cannot be written.
    """
    with ExitStack() as held:
        folder = processes.of_first(lambda: held.enter_context(_new_folder(target)))
        yield Report(folder)
        processes.each(held.close)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target`, as `report_folder` says."""
    asked = f"write a report to {target}"
    if os.path.lexists(target):
        raise V2WError(asked, "it exists", "another name")
    if not target.parent.is_dir():
        raise V2WError(asked, f"there is no folder {target.parent}", "make it first")
    partial = target.with_name(f".v2w-{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir()
        yield partial
        if os.path.lexists(target):
            raise V2WError(asked, "it exists by now", "another name")
        partial.rename(target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, V2WError):  # without the hidden name
            said = error.asked.replace(partial.name, target.name)
            raise V2WError(said, error.found, error.try_) from error
        if isinstance(error, OSError) and (found := disk_error(error)) is not None:
            raise V2WError(asked, error.strerror or found, ADVICE) from error
        raise
