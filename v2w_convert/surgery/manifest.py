"""`v2w.json`, the manifest: what was converted, by which plan, and what happened to every tensor."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)
from typing_extensions import TypedDict

from v2w_convert.checkpoint.digests import PATTERN
from v2w_convert.checkpoint.source import MANIFEST as MANIFEST
from v2w_convert.checkpoint.source import Choice
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object
from v2w_convert.surgery.settings import MAX_ACTION_DIM

VERSION = 2  # of the format
CONDITIONS = "conditions.safetensors"
MAX_FRAMES = 10_000  # latent frames in a clip
DENOISING_STEPS, FEW_STEPS = 10, 2


def _inside(path: str) -> str:
    """A path from a file is joined to a folder: only one that stays in it is taken."""
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("not the path of a file within the folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Hash = Annotated[str, StringConstraints(pattern=PATTERN)]
"""A file's digest, as `checkpoint.digests` names it."""


ConditionOrigin = Literal["null", "prompt", "file"]


class WeightsChoice(TypedDict):
    """Which of several weights of the base was read: `checkpoint.source.Choice`."""

    variant: NotRequired[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")]]
    ema: NotRequired[bool]


class Origin(TypedDict):
    """What was converted: the name of its folder or file, the digest of each weight file that was read, and of each other
    file, by its path. `sha256`: of weight files, where the Hub's cache had them under it. `choice`: which of several
    weights was read, where one was chosen.
    """

    name: str
    files: dict[str, Hash]
    others: NotRequired[dict[Inside, Hash]]
    sha256: NotRequired[dict[Inside, Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]]]
    choice: NotRequired[WeightsChoice]


class LowNoiseExpert(BaseModel):
    """The second denoiser of a folder that has two. The manifest's own entries are then those of the first.

    Attributes:
        component: Where it lies.
        stage: As in the manifest.
        boundary: Where its noise levels end and the first one's begin, as a share of the training timesteps.
        files: Digest of each of the base's weight files that was read for it.
        tensors: As in the manifest.
    """

    model_config = ConfigDict(extra="forbid")
    component: Literal["transformer_2"] = "transformer_2"
    stage: Literal["converted", "finetuned"] = "converted"
    boundary: float = Field(gt=0, le=1)
    files: dict[str, Hash]
    tensors: dict[str, Literal["kept", "transferred", "added"]]


class TrainedClips(BaseModel):
    """What a manifest's `finetuning` says that other commands go by; it says more.

    Attributes:
        steps: Optimizer steps.
        settings: Of the run, `frames` among them: latent frames in a clip.
        conditions: Conditions that were an episode's own, and what they were made of.
        data_view: How the data was read, with the size of the frames and the rate that were used.
        objective: What was learned; `consistency`: share of clips distilled from several denoising steps.
    """

    class Settings(BaseModel):
        frames: int | None = Field(default=None, ge=1, le=MAX_FRAMES)

    class Objective(BaseModel):
        consistency: float = Field(default=0, ge=0, le=1)

    steps: int = Field(ge=1)
    settings: Settings = Settings()
    conditions: dict[str, Literal["task", "first frame"]] = {}
    data_view: DataSettings = DataSettings()
    objective: Objective = Objective()


class Manifest(BaseModel):
    """The record at the root of a converted folder.

    Attributes:
        stage: `converted`: actions have no effect yet; `finetuned`: they have been trained, here or by those
            who made the base.
        plan: The resolved plan, as data.
        source: Name; `files`: digest of each weight file that was read; `others`: of each other file, by its
            path.
        result: Digest of each file that was written, by its path: all but this one and the card, which may be
            edited.
        tensors: Name -> `kept`, `transferred` or `added`.
        seed: From which added tensors were drawn.
        prompt: The prompt whose embedding is stored, if the base's own encoders made it.
        conditions: Where each stored condition is from: `null`, the plan's; `prompt`, the encoders; `file`, the user's.
            None in manifests of versions that did not say.
        finetuning: How it was trained, once it was; before, the weights are what surgery made. Of two denoisers only
            those whose stage says so were trained.
        low_noise: The second denoiser, where there are two.
        data_view: How the data was read that the action dimension is of, where it was read from data.
    """

    model_config = ConfigDict(extra="forbid")
    v2w: Literal[2] = 2
    version: str
    stage: Literal["converted", "finetuned"]
    component: Annotated[str, StringConstraints(pattern="^(unet|transformer)?$")]
    plan: dict[str, Any]
    action_dim: int = Field(ge=1, le=MAX_ACTION_DIM)
    seed: int = Field(ge=0)
    source: Origin
    result: dict[Inside, Hash]
    tensors: dict[str, Literal["kept", "transferred", "added"]]
    prompt: str | None = None
    conditions: dict[str, ConditionOrigin] | None = None
    finetuning: dict[str, Any] | None = None
    low_noise: LowNoiseExpert | None = None
    data_view: DataSettings | None = None

    @field_validator("finetuning")
    @classmethod
    def _trained(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            TrainedClips.model_validate({"steps": 1} if value is None else value, strict=True)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise ValueError("; ".join(faults[:3])) from None
        return value

    @property
    def experts(self) -> "dict[str, Manifest]":
        """For each denoiser, by its name in `Source.experts`, the manifest as if it were the only one."""
        if self.low_noise is None:
            return {"": self}
        low = self.low_noise.model_dump(include={"component", "stage", "tensors"})
        low["source"] = {**self.source, "files": self.low_noise.files}
        experts = {"high": self, "low": self.model_copy(update=low)}
        return {name: expert._alone() for name, expert in experts.items()}

    def _alone(self) -> "Manifest":
        trained = self.finetuning if self.stage == "finetuned" else None
        return self.model_copy(update={"low_noise": None, "finetuning": trained})

    def trained(self, experts: Collection[str]) -> "Manifest":
        """The manifest after these denoisers, named as in `Source.experts`, have been trained."""
        low = self.low_noise
        if low is not None and "low" in experts:
            low = low.model_copy(update={"stage": "finetuned"})
        stage = self.stage if set(experts) == {"low"} else "finetuned"
        return self.model_copy(update={"stage": stage, "low_noise": low})

    @property
    def boundary(self) -> float | None:
        """Where the ranges of two denoisers meet, as a share of the training timesteps; None: there is one."""
        return None if self.low_noise is None else self.low_noise.boundary

    @property
    def all_tensors(self) -> "dict[str, Literal['kept', 'transferred', 'added']]":
        """`tensors`; of two denoisers those of both, their names behind "high." or "low."."""
        return {
            f"{expert}.{name}" if expert else name: fate
            for expert, manifest in self.experts.items()
            for name, fate in manifest.tensors.items()
        }

    @property
    def view(self) -> DataSettings:
        """How data is read for the model: as in the last run that trained it, or as when it was converted."""
        if self.finetuning is not None and (said := self.finetuning.get("data_view")):
            return DataSettings.model_validate(said)
        return self.data_view or DataSettings()

    @property
    def denoising_steps(self) -> int:
        """In how many denoising steps frames are made where nobody says: few, if the last run trained for few."""
        trained = self.finetuning is not None and TrainedClips.model_validate(self.finetuning)
        return FEW_STEPS if trained and trained.objective.consistency else DENOISING_STEPS

    @property
    def choice(self) -> Choice:
        """Which of several weights of the base was read."""
        return Choice(**self.source.get("choice", {}))

    def text(self) -> str:
        return json.dumps(self.model_dump(), indent=1, allow_nan=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the converted folder `folder`.

    Raises:
        V2WError: If `folder` is no converted model.
    """
    asked = f"read the converted model {folder}"
    if not folder.is_dir():
        raise V2WError(asked, "no such folder", "check the path")
    file = folder / MANIFEST
    if not file.is_file():
        raise V2WError(asked, f"it has no {MANIFEST}: not a converted model", "v2w convert BASE -o OUT")
    data = read_object(file, infinity=True)
    if data.get("v2w") != VERSION:
        found = f"{MANIFEST} has format version {data.get('v2w')!r:.80}, this v2w reads version {VERSION}"
        raise V2WError(asked, found, "convert the base again with this version of v2w")
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        faults = [f"{MANIFEST}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise V2WError(asked, faults[:5]) from None
