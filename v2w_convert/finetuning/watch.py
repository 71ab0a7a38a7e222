"""How a run is watched: its log goes to trackers, and rollouts are shown. Nothing of it changes what is trained."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from v2w_convert.finetuning.previews import Previews
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.trackers import Trackers
from v2w_convert.finetuning.training import Training
from v2w_convert.world.experts import AnyWorld


class Watch:
    """What is done while a run is trained, beside training it."""

    def __init__(self, settings: FinetuneSettings, output: Path):
        """Check that the trackers are there.

        Args:
            settings: The settings.
            output: The run folder.

        Raises:
            V2WError: A tracker is not installed.
        """
        self.every, self.output = settings.rollout_every, output
        self.previews: Previews | None = None
        self._trackers = Trackers(
            settings.report_to, settings.project, output, settings.model_dump(mode="json")
        )

    def log(self, line: dict[str, Any]) -> None:
        """Have the trackers write a line of the log.

        Raises:
            V2WError: They cannot.
        """
        self._trackers.log(line)

    def show(self, world: AnyWorld, training: Training, accelerator: Accelerator, step: int) -> None:
        """After a step: roll out with the averaged weights, if it is time to.

        Raises:
            V2WError: What is generated is not finite, or the disk is full.
        """
        if self.previews is None or self.every is None or step % self.every:
            return
        with training.averaged_weights(), accelerator.autocast():
            sheet = self.previews.write(world, self.output, step)
        self._trackers.picture("rollouts", sheet, step)

    def close(self) -> None:
        """Have the trackers write what they have not written yet."""
        self._trackers.close()
