"""meta/info.json of a LeRobot data set, of version 3 or 2."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.templates import check_name, check_template
from v2w_convert.data.validation.videos import check_size
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object

INFO = "meta/info.json"
MAX_EPISODES = 1_000_000
MAX_FRAMES = 10**10
MAX_ACTION = 10_000  # numbers
MAX_LABEL = 1000  # characters
NUMBERS = ("float", "int", "uint", "bool")  # what types of numbers begin with
BOOKS = ("timestamp", "frame_index", "episode_index", "index", "task_index")  # kept by the library itself
MAX_FAULTS = 5
FIELDS = {3: ("chunk_index", "file_index"), 2: ("episode_chunk", "episode_index")}

Name = Annotated[str, AfterValidator(check_name)]


class Feature(BaseModel):
    """One entry of each frame, or a camera."""

    model_config = ConfigDict(strict=True, frozen=True)

    dtype: str = Field(max_length=100)
    shape: list[Annotated[int, Field(ge=0, le=2**31)]] = Field(max_length=16)
    names: Any = None
    info: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _shown(self) -> Self:
        if any(not name.isprintable() or len(name) > MAX_LABEL for name in self.labels):
            raise ValueError("a name that is too long or cannot be shown")
        return self

    @property
    def labels(self) -> list[str]:
        """The names as one list: they are written as one, or in groups ({"motors": [...]}); none where they are neither."""
        groups = list(self.names.values()) if isinstance(self.names, dict) else [self.names]
        if not all(isinstance(group, list) for group in groups):
            return []
        found = [name for group in groups for name in group]
        return found if all(isinstance(name, str) for name in found) else []

    @property
    def is_numbers(self) -> bool:
        """Whether it is one flat vector of numbers."""
        return self.dtype.startswith(NUMBERS) and len(self.shape) == 1 and 1 <= self.shape[0] <= MAX_ACTION

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera that sees colours."""
        return self.dtype in ("video", "image") and not self._sees_distances

    @property
    def _sees_distances(self) -> bool:
        said = self.info or {}
        deep = str(said.get("video.pix_fmt", "")).startswith("gray1")  # of more than 8 bits
        return deep or bool(said.get("video.is_depth_map") or said.get("is_depth_map"))


class Info(BaseModel):
    """The description of a data set, checked."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    codebase_version: str
    total_episodes: int = Field(ge=1, le=MAX_EPISODES)
    total_frames: int = Field(ge=1, le=MAX_FRAMES)
    fps: float = Field(ge=0.01, le=1000)
    chunks_size: int = Field(default=1000, ge=1, le=MAX_EPISODES)
    data_path: str
    video_path: str | None = None
    features: dict[Name, Feature]

    @model_validator(mode="after")
    def _paths(self) -> Self:
        for name in ("data_path", "video_path"):
            if (path := getattr(self, name)) is not None:
                try:
                    check_template(path, FIELDS[self.version])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return self

    @property
    def version(self) -> int:
        """3, or 2 for 2.0 and 2.1."""
        return 3 if self.codebase_version.startswith("v3") else 2

    @property
    def cameras(self) -> list[str]:
        """Names of all cameras that see colours."""
        return [name for name, feature in self.features.items() if feature.is_camera]

    @property
    def numbers(self) -> list[str]:
        """Names of all flat vectors of numbers that were recorded."""
        return [name for name, one in self.features.items() if one.is_numbers and name not in BOOKS]

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
        V2WError: It does not describe a data set of such a version with cameras and episodes.
    """
    asked = f"read the data set {folder}"
    content = read_object(file_in(folder, INFO))
    version = content.get("codebase_version")
    if not isinstance(version, str) or not version.startswith(("v3", "v2")):
        found = f"its layout is {version!s:.40}, not v2 or v3"
        raise V2WError(asked, found, "convert it with the scripts of the lerobot package")
    if content.get("total_episodes") == 0:
        raise V2WError(asked, "it has no episode", "record some")
    try:
        info = Info.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, e['loc'])):.200}: {e['msg']:.200}".removeprefix(": Value error, ")
            for e in error.errors(include_input=False)
        ]
        raise V2WError(f"read {folder / INFO}", faults[:MAX_FAULTS]) from None
    if faults := list(_faults(info)):
        raise V2WError(f"read {folder / INFO}", faults[:MAX_FAULTS])
    return info


def _faults(info: Info) -> Iterator[str]:
    """What is wrong with the cameras."""
    if not info.cameras:
        yield "features: it has no camera: no feature of type video or image that sees colours"
    elif info.video_path is None and any(info.features[name].dtype == "video" for name in info.cameras):
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
