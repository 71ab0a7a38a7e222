"""`v2w.json`: what was done, to what, and what came of every tensor."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from v2w_convert.errors import V2WError

MANIFEST = "v2w.json"
CONDITIONS = "conditions.safetensors"


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
    v2w: Literal[1] = 1
    version: str
    stage: Literal["converted", "finetuned"]
    component: str
    plan: dict[str, Any]
    action_dim: int
    seed: int
    source: dict[str, Any]
    result: dict[str, str]
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
        raise V2WError(asked, f"it has no {MANIFEST}: not a converted model", "v2w convert BASE OUT")
    try:
        return Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        found = (
            [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        raise V2WError(asked, [f"{MANIFEST}: {fault}" for fault in found[:5]]) from None
