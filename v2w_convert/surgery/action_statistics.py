"""What finetuning records of its data's actions in the manifest."""

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from v2w_convert.data.actions import ActionKind, ActionPart, ActionSpace
from v2w_convert.errors import V2WError
from v2w_convert.surgery.manifest import MANIFEST, Manifest

Numbers = list[Annotated[float, Field(allow_inf_nan=False)]]


Label = Annotated[str, Field(max_length=1000)]


@dataclass(frozen=True)
class RecordedPart:
    """Numbers of an action that belong together: `data.actions.ActionPart`, whose size is the number of labels.

    Attributes:
        name: What it is called.
        kind: What it is: numbers that the data declares as amounts are choices here where all are one-hot, and keys where
            all are 0 or 1.
        labels: A name for each amount, choice or key.
    """

    name: Label
    kind: ActionKind
    labels: Annotated[list[Label], Field(min_length=1)]


@dataclass(frozen=True)
class ActionStatistics:
    """Of all actions of the training data that led to a frame: a list has an entry for each number of an action.

    Attributes:
        count: Actions.
        mean: In the data's units, as the others.
        std: Standard deviation; 0 of a number that never changes.
        min: The smallest.
        max: The largest.
        parts: What the action of one video frame is made of; None of a version that did not say. Where a latent frame
            holds k video frames, the lists above have the numbers of k actions, one after the other.
    """

    count: int
    mean: Numbers
    std: Numbers
    min: Numbers
    max: Numbers
    parts: Annotated[list[RecordedPart], Field(min_length=1)] | None = None

    @property
    def space(self) -> ActionSpace | None:
        """The parts of an action; None where they are not known."""
        if self.parts is None:
            return None
        return ActionSpace(
            tuple(ActionPart(x.name, x.kind, len(x.labels), tuple(x.labels)) for x in self.parts)
        )

    def varies(self) -> list[bool]:
        """Whether each number of an action has more than one value."""
        return [low < high for low, high in zip(self.min, self.max, strict=True)]


def recorded_actions(manifest: Manifest) -> list[ActionStatistics | None]:
    """The statistics of each run that trained the model, the first one first; None: of a version that kept none.

    Raises:
        V2WError: The manifest's are no statistics of such actions.
    """
    found: list[ActionStatistics | None] = []
    record = manifest.finetuning
    while isinstance(record, dict):
        given = record.get("actions")
        try:
            statistics = TypeAdapter(ActionStatistics | None).validate_python(given)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
            raise V2WError(f"read the actions' statistics in {MANIFEST}", faults) from None
        if statistics is not None:
            lists = (statistics.mean, statistics.std, statistics.min, statistics.max)
            if wrong := [len(each) for each in lists if len(each) != manifest.action_dim]:
                raise V2WError(
                    f"read the actions' statistics in {MANIFEST}",
                    f"{wrong[0]} numbers of actions of {manifest.action_dim}",
                )
            if (space := statistics.space) is not None and manifest.action_dim % space.dim:
                raise V2WError(
                    f"read the actions' statistics in {MANIFEST}",
                    f"its parts have {space.dim} numbers, actions have {manifest.action_dim}",
                )
        found.insert(0, statistics)
        record = record.get("before")
    return found
