"""The conditions that a converted model uses when its caller gives none, such as a prompt's embedding."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.device import resolve_device
from v2w_convert.encoders.families import NO_PROMPT
from v2w_convert.encoders.open_clip import empty_prompt
from v2w_convert.encoders.prompt import as_conditions, encode_prompts, prompt_obstacle
from v2w_convert.errors import V2WError
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.manifest import ConditionOrigin, Manifest

MAX_BYTES = 2**28  # of a condition; prompts of the largest encoders take 20 MB
FRAMES = 16  # latent frames that a picture's conditions are made for, where nothing says how many


@dataclass(frozen=True)
class ConditionChoice:
    """Where a converted model's conditions come from.

    Attributes:
        file: A safetensors file of them.
        prompt: What the base's own encoders encode; None: the empty prompt, where the base has encoders.
        device: Where to encode.
    """

    file: Path | None = None
    prompt: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class StoredConditions:
    """What a converted model will use.

    Attributes:
        tensors: By name, unbatched.
        prompt: The prompt that was encoded, if one was.
        given: Names of those that are not the plan's nulls by default, and where they are from.
        notes: What the user should know.
    """

    tensors: dict[str, Tensor]
    prompt: str | None
    given: dict[str, ConditionOrigin] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def origins(self) -> dict[str, ConditionOrigin]:
        """Where each is from, for the manifest."""
        null: ConditionOrigin = "null"
        return dict.fromkeys(self.tensors, null) | self.given


def choose_conditions(source: Source, resolved: ResolvedPlan, choice: ConditionChoice) -> StoredConditions:
    """The conditions to store for a base.

    Raises:
        V2WError: The file does not fit, a prompt is asked for that cannot be encoded, or the encoders cannot be read.
    """
    if choice.file is not None:
        stored = stored_conditions(resolved, choice.file)
        return StoredConditions(stored, None, dict.fromkeys(read_header(choice.file), "file"))
    nulls = stored_conditions(resolved, None)
    if (prompt := stored_prompt(source, resolved, choice.prompt)) is None:
        obstacle = prompt_obstacle(source.folder, resolved)
        note = f"no prompt is encoded, its embedding is zeros: {obstacle}"
        notes = (note,) if "text" in nulls and obstacle != NO_PROMPT else ()
        return StoredConditions(nulls, None, notes=notes)
    if source.text_encoder:
        text = empty_prompt(source.text_encoder)
        encoded = as_conditions(resolved, {"text": text[None]}, "encode the empty prompt")
    else:
        [encoded] = encode_prompts(source.folder, resolved, [prompt], resolve_device(choice.device))
    return StoredConditions(nulls | encoded, prompt, dict.fromkeys(encoded, "prompt"))


def stored_prompt(source: Source, resolved: ResolvedPlan, prompt: str | None) -> str | None:
    """The prompt whose embedding is stored where the user asks for `prompt`; None: there is no encoder for one.

    Raises:
        V2WError: There is none, and the user asks for a prompt.
    """
    obstacle = prompt_obstacle(source.folder, resolved)
    if source.text_encoder:
        obstacle = "the file has no tokenizer: only the empty prompt can be encoded" if prompt else None
    if obstacle is None:
        return prompt or ""
    if prompt is not None:
        raise V2WError(
            f"encode the prompt {prompt!r:.80}", obstacle, "--conditions with an embedding of your own"
        )
    return None


def stored_conditions(resolved: ResolvedPlan, file: Path | None) -> dict[str, Tensor]:
    """The plan's null conditions, replaced by the tensors that the safetensors `file` holds, one per condition, unbatched.

    A prompt may have any number of tokens. Conditions that are as large as a frame are not stored.

    Raises:
        V2WError: With all faults, if the file holds anything else.
    """
    nulls = resolved.call.null_conditions()
    if file is None:
        return nulls
    asked = f"take the conditions from {file}"
    header = read_header(file)
    faults = [f"{name} is not a condition of this family" for name in header.keys() - nulls.keys()]
    found = {}
    for name in header.keys() & nulls.keys():
        if not resolved.call.conditions[name].accepts(header[name].shape):
            faults.append(f"{name} is {header[name].shape}, not {tuple(nulls[name].shape)}")
        elif header[name].size > MAX_BYTES:
            faults.append(f"{name} has {header[name].size} bytes, over the limit of {MAX_BYTES}")
        elif header[name].dtype == "C64":
            faults.append(f"{name} is complex")
        else:
            found[name] = read_tensor(header[name]).to(nulls[name].dtype)
            if not bool(torch.isfinite(found[name]).all()):
                faults.append(f"{name} has values that are not finite")
    if faults:
        raise V2WError(asked, sorted(faults), f"tensors named {', '.join(nulls) or 'nothing: it has none'}")
    return nulls | found


def conditions_match(resolved: ResolvedPlan, file: Path | None, stored: Path) -> bool:
    """Whether the file `stored` holds what `stored_conditions` gives."""
    wanted = stored_conditions(resolved, file)
    found = (
        {name: read_tensor(info) for name, info in read_header(stored).items()} if stored.is_file() else {}
    )
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def picture_frames(manifest: Manifest, resolved: ResolvedPlan) -> int:
    """Latent frames that a picture's conditions are made for: as many as the clips that the model has seen have."""
    frames = ((manifest.finetuning or {}).get("settings") or {}).get("frames")
    return frames if isinstance(frames, int) and frames > 0 else resolved.frames(resolved.window or FRAMES)
