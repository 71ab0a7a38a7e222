"""What was changed by hand is named: fields of the plan, stored conditions, files beside the denoiser.

An edited plan is a user's right, and a figure says what was edited. A stored condition that is not what the manifest says
it is, or a copied file that is not the base's, fails.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.encoders.open_clip import empty_prompt
from v2w_convert.encoders.prompt import as_conditions, encode_prompts, prompt_obstacle
from v2w_convert.errors import V2WError, one_line
from v2w_convert.expression import evaluate_int
from v2w_convert.noise import noise_spec_from_scheduler
from v2w_convert.plan.call import Conditions
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.strict_json import read_object
from v2w_convert.surgery.card import CARD
from v2w_convert.surgery.manifest import CONDITIONS, Manifest
from v2w_convert.verification.claim import Claim, ClaimSpec, join_names, nan_max
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import FILES, HASHES
from v2w_convert.verification.report.fixes import CONVERT_AGAIN, fix_text

WITHOUT_EFFECT = ("tiny", "reasons")  # entries of a plan that a converted model does not use
LARGEST_COPY = (
    64 * 2**20
)  # bytes of a file that is compared with the base's; of others their recorded hashes are
LARGEST_ENCODERS = 2 * 10**9  # bytes of text encoders that are run to check a prompt
ROUNDING = 2.0**-5  # of the largest value: encoders in bfloat16, on another device
IN_SENTENCE = 5

EDITS = ClaimSpec(
    "edits",
    "equivalence",
    "How many entries of the plan, stored conditions and files were edited",
    figure=True,
)
NULLS = ClaimSpec(
    "stored-nulls",
    "equivalence",
    "Every stored condition that was given by nobody is the plan's null",
    fix=fix_text(f"{CONVERT_AGAIN}; --conditions FILE for values of your own"),
)
PROMPT = ClaimSpec(
    "stored-prompt",
    "equivalence",
    "The stored prompt is what the base's encoders make of the recorded one",
    fix=fix_text(f"{CONVERT_AGAIN}; --prompt TEXT for another one"),
)
COPIES = ClaimSpec(
    "copies-equal-base",
    "equivalence",
    "Every file beside the denoiser is the base's own",
    needs_base=True,
    fix=fix_text(f"{CONVERT_AGAIN}, or copy these files from the base"),
)


def measure_edits(
    resolved: ResolvedPlan,
    manifest: Manifest,
    scheduler: Mapping[str, Any] | None,
    changed: Iterable[str] = (),
) -> Claim:
    """Name every field of the plan that is not the shipped plan's, and every condition that was given.

    Args:
        resolved: The plan in the manifest.
        manifest: The converted folder's record.
        scheduler: The config of the base's scheduler, from which the shipped plan takes its noise.
        changed: Files beside the denoiser that are not the base's.
    """
    edits = plan_edits(resolved, scheduler)
    edits |= dict.fromkeys(changed, "not the base's")
    edits |= {
        f"conditions: {name}": "given by a file"
        for name, origin in (manifest.conditions or {}).items()
        if origin == "file"
    }
    if manifest.prompt:
        edits["prompt"] = json.dumps(manifest.prompt[:80], allow_nan=False)
    told = [f"{field} {change}" for field, change in edits.items()]
    more = f"; and {len(told) - IN_SENTENCE} more" if len(told) > IN_SENTENCE else ""
    return EDITS.result(
        float(len(edits)),
        where=join_names(edits),
        how="fields in which the manifest's plan differs from the shipped one of its name, resolved for this base and its "
        f"scheduler, conditions that were given, and files that are not the base's: {'; '.join(told) or 'none'}",
        sentence=f"Edited: {'; '.join(told[:IN_SENTENCE])}{more}" if told else "",
    )


def plan_edits(resolved: ResolvedPlan, scheduler: Mapping[str, Any] | None) -> dict[str, str]:
    """Each field in which a plan differs from the shipped one of its name: what it is there, and what it is here."""
    name = resolved.plan.name
    file = shipped_plans().get(name)
    if file is None:
        return {"plan": f"{name} is not a shipped one"}
    try:
        shipped = _for_this_base(read_plan(file), resolved.config, scheduler)
    except (V2WError, ValueError) as error:
        return {"plan": f"the shipped {name} does not serve this base: {one_line(error)}"}
    before, after = _fields(shipped), _fields(resolved.plan)
    return {
        field: f"{before.get(field, 'none')} → {after.get(field, 'none')}"
        for field in before | after
        if before.get(field) != after.get(field)
    }


def _for_this_base(plan: Plan, config: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> Plan:
    """A plan in plain numbers, with the noise of the scheduler, as `resolve` has it, without matching any module."""
    noise = plan.noise if scheduler is None else noise_spec_from_scheduler(scheduler, plan.noise)
    return plan.model_copy(
        update={
            "noise": noise,
            "operations": tuple(operation.resolve(config) for operation in plan.operations),
            "frames_per_block": evaluate_int(plan.frames_per_block, config),
        }
    )


def _fields(plan: Plan) -> dict[str, str]:
    """Every value in a plan as JSON, by its path; operations by their names and patterns."""
    data = plan.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    data["operations"] = {
        f"{kind} at {fields.get('at')}": fields
        for entry in data["operations"]
        for kind, fields in entry.items()
    }
    found: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))
        else:
            found[path.removeprefix("operations.")] = json.dumps(value, allow_nan=False)[:80]

    walk(data, "")
    return found


def measure_nulls(folder: Path, resolved: ResolvedPlan, manifest: Manifest) -> Claim:
    """Compare what is stored with the plan's nulls, of which a converted model without a prompt has nothing else."""
    nulls, found = resolved.call.null_conditions(), _stored(folder)
    origins = manifest.conditions
    unknown = [
        name
        for name in nulls
        if origins is None and name in found and not torch.equal(found[name], nulls[name])
    ]
    if unknown:
        return NULLS.not_measured(f"the manifest does not say where {join_names(unknown)} is from")
    taken = {name for name in nulls if (origins or {}).get(name, "null") == "null"}
    broken = [
        name
        for name in nulls.keys() | found.keys()
        if name not in nulls
        or name not in found
        or (
            name in taken
            and not (found[name].dtype == nulls[name].dtype and torch.equal(found[name], nulls[name]))
        )
    ]
    return NULLS.count(sorted(broken), f"of {len(nulls)} conditions: other values, missing, or unknown")


def measure_prompt(folder: Path, resolved: ResolvedPlan, manifest: Manifest, origin: Source | None) -> Claim:
    """Encode the recorded prompt again."""
    names = [name for name, where in (manifest.conditions or {}).items() if where == "prompt"]
    if manifest.prompt is None:
        return PROMPT.not_measured("no prompt was encoded")
    try:
        encoded = _encode(folder, resolved, manifest.prompt, origin)
    except V2WError as error:
        return PROMPT.not_measured(error.found)
    if encoded is None:
        return PROMPT.not_measured("its encoders are too large, or not there")
    found = _stored(folder)
    apart = {name: _difference(found.get(name), encoded.get(name)) for name in names or encoded}
    return PROMPT.result(
        nan_max(apart.values()),
        allowed=ROUNDING,
        where=join_names(name for name, value in apart.items() if not value <= ROUNDING),
        how="largest difference over the largest value, with the encoders in the folder, on the CPU",
    )


def _encode(folder: Path, resolved: ResolvedPlan, prompt: str, origin: Source | None) -> Conditions | None:
    """The prompt's conditions; None: no encoder is at hand, or they are large."""
    if prompt_obstacle(folder, resolved) is None:
        encoders = [
            file for part in folder.glob("text_encoder*") for file in part.rglob("*") if file.is_file()
        ]
        if sum(file.stat().st_size for file in encoders) > LARGEST_ENCODERS:
            return None
        return encode_prompts(folder, resolved, [prompt], torch.device("cpu"))[0]
    if origin is not None and origin.text_encoder and prompt == "":
        text = empty_prompt(origin.text_encoder)
        return as_conditions(resolved, {"text": text[None]}, "encode the empty prompt")
    return None


def _stored(folder: Path) -> Conditions:
    file = folder / CONDITIONS
    return {name: read_tensor(info) for name, info in read_header(file).items()} if file.is_file() else {}


def _difference(found: Tensor | None, expected: Tensor | None) -> float:
    if found is None or expected is None or found.shape != expected.shape:
        return float("inf")
    apart = float((found.double() - expected.double()).abs().max())
    return apart / (float(expected.double().abs().max()) or 1.0)


def measure_copies(base: Source, folder: Path, manifest: Manifest) -> Claim:
    """Compare files that conversion copies. The weights of a finetuned model may be another's: a figure names them."""
    changed, count = changed_copies(base, folder, manifest)
    broken = [name for name in changed if not (manifest.finetuning and _holds_weights(name))]
    return COPIES.count(
        broken,
        f"files, of {count}, that are not the base's; of JSON every entry that does not begin with an underscore counts"
        + ("; weights may have been trained" if manifest.finetuning else ""),
    )


def changed_copies(base: Source, folder: Path, manifest: Manifest) -> tuple[list[str], int]:
    """Files beside the denoiser that are not the base's, and how many were compared.

    Of large files the recorded hashes are compared: that a file has its hash is another claim, as that it is there.
    """
    recorded, changed = manifest.source.get("others", {}), []
    names = [path.as_posix() for path in base.others if path.as_posix() != CARD and (folder / path).is_file()]
    for name in names:
        copy, own = folder / name, base.folder / name
        if own.stat().st_size > LARGEST_COPY:
            same = name in recorded and manifest.result.get(name) == recorded[name]
        else:
            same = copy.read_bytes() == own.read_bytes() or _settings(copy) == _settings(own) is not None
        changed += [] if same else [name]
    written = {"scheduler/scheduler_config.json": base.scheduler} if base.pipeline else {}
    if base.autoencoder is not None:
        written["vae/config.json"] = base.autoencoder.config
    made = {name: config for name, config in written.items() if config and (folder / name).is_file()}
    changed += [name for name, config in made.items() if _settings(folder / name) != _entries(config)]
    return sorted(changed), len(names) + len(made)


def _settings(file: Path) -> dict[str, Any] | None:
    """The entries of a JSON file; None: it is none."""
    try:
        return _entries(read_object(file)) if file.suffix == ".json" else None
    except V2WError:
        return None


def _entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without what diffusers notes by the way, such as `_name_or_path`; `_class_name` counts."""
    plain: dict[str, Any] = json.loads(json.dumps(config, allow_nan=False))
    return {key: value for key, value in plain.items() if not key.startswith("_") or key == "_class_name"}


def _holds_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def _scheduler(context: VerifyContext) -> Mapping[str, Any] | None:
    return (context.origin or context.source).scheduler


def _edits(context: VerifyContext) -> list[Claim]:
    changed: list[str] = []
    if context.origin is not None:
        changed, _ = changed_copies(context.origin, context.converted, context.manifest)
    return [measure_edits(context.resolved, context.manifest, _scheduler(context), changed)]


def _copies(context: VerifyContext) -> list[Claim]:
    assert context.origin is not None
    return [measure_copies(context.origin, context.converted, context.manifest)]


CHECKS = (
    Check(
        "edits",
        (EDITS,),
        HASHES,
        _edits,
        whole=True,
    ),
    Check(
        "stored conditions",
        (NULLS,),
        HASHES,
        lambda c: [measure_nulls(c.converted, c.resolved, c.manifest)],
        whole=True,
    ),
    Check(
        "stored prompt",
        (PROMPT,),
        FILES,
        lambda c: [measure_prompt(c.converted, c.resolved, c.manifest, c.origin)],
        applies=lambda c: c.manifest.prompt is not None,
        whole=True,
    ),
    Check("files beside the denoiser", (COPIES,), HASHES, _copies, whole=True),
)
