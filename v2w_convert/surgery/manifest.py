"""`v2w.json`: what was done, to what, and what came of every tensor."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from typing_extensions import TypedDict

from v2w_convert.checkpoint.strict_json import read_object
from v2w_convert.errors import V2WError
from v2w_convert.surgery.settings import MAX_ACTION_DIM

MANIFEST = "v2w.json"
CONDITIONS = "conditions.safetensors"



def _inside(path: str) -> str:
    """A path from a file is joined to a folder: only one that stays in it is taken."""
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("not the path of a file within the folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Origin(TypedDict):
    """What was converted: the name of its folder or file, the sha256 of each weight file that was read, and of each other
    file, by its path.
    """

    name: str
    files: dict[str, Hash]
    others: NotRequired[dict[Inside, Hash]]


class Manifest(BaseModel):
    """The record at the root of a converted folder.

    stage       `converted`: actions have no effect yet; `finetuned`: they have been trained, here or by those who made
                the base
    plan        the resolved plan, as data
    source      name; `files`: sha256 of each weight file that was read; `others`: of each other file, by its path
    result      sha256 of each file that was written, by its path: all but this one and the card, which may be edited
    tensors     name -> `kept`, `transferred` or `added`
    seed        from which added tensors were drawn
    finetuning  how it was trained, once it was; before, the weights are what surgery made
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
    finetuning: dict[str, Any] | None = None

    def text(self) -> str:
        return json.dumps(self.model_dump(), indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Raises V2WError if `folder` is no converted model."""
    asked = f"read the converted model {folder}"
    if not folder.is_dir():
        raise V2WError(asked, "no such folder", "check the path")
    file = folder / MANIFEST
    if not file.is_file():
        raise V2WError(asked, f"it has no {MANIFEST}: not a converted model", "v2w convert BASE -o OUT")
    try:
        return Manifest.model_validate(read_object(file))
    except ValidationError as error:
        found = [f"{MANIFEST}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise V2WError(asked, found[:5]) from None
