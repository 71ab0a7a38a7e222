"""meta/info.json of a LeRobot v3 data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.templates import check_name, check_template
from v2w_convert.data.validation.videos import check_size
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object

INFO, ACTION = "meta/info.json", "action"
MAX_EPISODES = 1_000_000
MAX_FRAMES = 10**10
MAX_ACTION = 10_000  # numbers
NUMBERS = ("float", "int", "uint")  # what types of actions begin with
MAX_FAULTS = 5

Name = Annotated[str, AfterValidator(check_name)]
Template = Annotated[str, AfterValidator(check_template)]


class Feature(BaseModel):
    """One entry of each frame, or a camera."""

    model_config = ConfigDict(strict=True, frozen=True)

    dtype: str = Field(max_length=100)
    shape: list[Annotated[int, Field(ge=0, le=2**31)]] = Field(max_length=16)
    names: Any = None
    info: dict[str, Any] | None = None

    @field_validator("names")
    @classmethod
    def _shown(cls, names: Any) -> Any:
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str) and (not name.isprintable() or len(name) > 1000):
                raise ValueError("a name that is too long or cannot be shown")
        return names

    @property
    def depth(self) -> bool:
        """Whether it is a camera that sees distances."""
        said = self.info or {}
        return bool(said.get("video.is_depth_map") or said.get("is_depth_map"))


class Info(BaseModel):
    """The description of a data set, checked."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    total_episodes: int = Field(ge=1, le=MAX_EPISODES)
    total_frames: int = Field(ge=1, le=MAX_FRAMES)
    fps: float = Field(ge=0.01, le=1000)
    data_path: Template
    video_path: Template | None = None
    features: dict[Name, Feature]

    @property
    def cameras(self) -> list[str]:
        """Names of all cameras that see colours."""
        return [
            name for name, feature in self.features.items() if feature.dtype == "video" and not feature.depth
        ]

    @property
    def action_dim(self) -> int:
        """Numbers per action."""
        return self.features[ACTION].shape[0]

    def frame_size(self, camera: str) -> tuple[int, int]:
        """Height and width of a camera's frames. Their shape is (height, width, channels), or channels come first."""
        feature = self.features[camera]
        names = feature.names if isinstance(feature.names, list) else []
        channels = names[:1] in (["channels"], ["channel"], ["c"]) or (
            not names and feature.shape[0] in (1, 3) and feature.shape[2] not in (1, 3)
        )
        height, width = feature.shape[1:] if channels else feature.shape[:2]
        return height, width


def read_info(folder: Path) -> Info:
    """meta/info.json, checked.

    Raises:
        V2WError: It does not describe a data set of this version with an action vector, cameras and episodes.
    """
    asked = f"read the data set {folder}"
    content = read_object(file_in(folder, INFO))
    version = content.get("codebase_version")
    if not isinstance(version, str) or not version.startswith("v3"):
        raise V2WError(
            asked, f"its layout is {version!s:.40}", "convert it with lerobot's v2.1 to v3.0 script"
        )
    if content.get("total_episodes") == 0:
        raise V2WError(asked, "it has no episode", "record some")
    try:
        info = Info.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, e['loc'])):.200}: {e['msg']:.200}" for e in error.errors(include_input=False)
        ]
        raise V2WError(f"read {folder / INFO}", faults[:MAX_FAULTS]) from None
    if faults := list(_faults(info)):
        raise V2WError(f"read {folder / INFO}", faults[:MAX_FAULTS])
    return info


def _faults(info: Info) -> Iterator[str]:
    """What is wrong with the action and the cameras."""
    action = info.features.get(ACTION)
    if action is None:
        yield f"features: there is no {ACTION!r}"
    elif not action.dtype.startswith(NUMBERS):
        yield f"features.{ACTION}.dtype: {action.dtype}, not numbers"
    elif len(action.shape) != 1 or not 1 <= action.shape[0] <= MAX_ACTION:
        yield f"features.{ACTION}.shape: actions of shape {action.shape}, not one flat vector per frame"
    if not info.cameras:
        yield "features: it has no video feature"
    elif info.video_path is None:
        yield "video_path: nothing, but there are videos"
    for camera in info.cameras:
        shape = info.features[camera].shape
        if len(shape) != 3:
            yield f"features.{camera}.shape: {shape}, not (height, width, channels)"
            continue
        height, width = info.frame_size(camera)
        channels = sum(shape) - height - width
        try:
            check_size(height, width)
            if channels not in (1, 3, 4):
                raise ValueError(f"{channels} channels")
        except ValueError as error:
            yield f"features.{camera}.shape: {error}"
