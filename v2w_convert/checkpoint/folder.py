"""A checkpoint in a folder: a pipeline or a bare model of diffusers, or what its makers publish."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.downloads import check_no_pointers, explain_folder
from v2w_convert.checkpoint.listing import few, listed, names_in, walk
from v2w_convert.checkpoint.names import both
from v2w_convert.checkpoint.original_folder import open_original_folder
from v2w_convert.checkpoint.own import own_tensors
from v2w_convert.checkpoint.source import COMPONENTS, MANIFEST, Choice, Source
from v2w_convert.checkpoint.unusable import check_config_usable
from v2w_convert.checkpoint.weights import NoWeights, Weights, is_weights_name, read_weights_of, require_files
from v2w_convert.errors import V2WError
from v2w_convert.links import is_link_out, refuse_links_out
from v2w_convert.strict_json import read_object


def open_folder(folder: Path, asked: str, choice: Choice = Choice()) -> Source:  # noqa: B008 (frozen)
    """The checkpoint in a pipeline or model folder. Raises as `open_source` does."""
    if not folder.exists():
        raise V2WError(asked, "no such folder or file")
    check_no_pointers(folder)
    component = find_component(folder, asked)
    original = None if component else open_original_folder(folder, asked, choice)
    if original is not None:
        return original
    if component is None:
        raise explain_folder(folder, asked) or _no_model(folder, asked)
    model, twin = choose_folder(folder, component, choice, asked)
    config = read_config(model, asked)
    weights = read_model(model, folder, asked, choice)
    tensors, notes = own_tensors(weights.tensors, replace(choice, ema=None) if twin else choice, asked)
    others, linked = find_others(folder, model, weights, twin)
    aside = [f"{model.name}/ is read; {twin.name}/ ignored"] if twin else []
    aside += incomplete_parts(folder, component) if component else []
    if linked:
        aside.append(f"links are not followed: {few(linked)} ignored")

    scheduler = folder / "scheduler" / "scheduler_config.json"
    return Source(
        folder=folder,
        component=component,
        config=config,
        tensors=tensors,
        scheduler=read_object(scheduler, infinity=True) if component and scheduler.exists() else None,
        files=weights.files,
        others=tuple(others),
        converted=(folder / MANIFEST).exists(),
        notes=(*weights.notes, *notes, *aside),
        renamed=bool(notes),
        choice=choice,
    )


def find_component(folder: Path, asked: str) -> str | None:
    """Where the model lies: a pipeline's folder, "" for a bare model, None for neither.

    Raises:
        V2WError: If a pipeline has two.
    """
    if (folder / "model_index.json").exists():
        components = [name for name in COMPONENTS if (folder / name / "config.json").exists()]
        if len(components) > 1:
            raise V2WError(asked, f"both {' and '.join(components)} exist", "one of these folders")
        if components:
            return components[0]
    return "" if (folder / "config.json").exists() else None


def choose_folder(folder: Path, component: str, choice: Choice, asked: str) -> tuple[Path, Path | None]:
    """The model's folder, and beside it the one that is not read: the weights or their average over training.

    Raises:
        V2WError: If both are there and none was chosen.
    """
    own = folder / component
    twin = folder / f"{component}_ema"
    if not component or not (twin / "config.json").exists():
        return own, None
    if choice.ema is None and not choice.first:
        raise both(asked, f"the weights, {component}/, and their average over training, {twin.name}/")
    return (twin, own) if choice.ema else (own, twin)


def read_config(model: Path, asked: str) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        V2WError: If it is none of diffusers', brings code, or is of a quantised model.
    """
    file = model / "config.json"
    config = read_object(file)
    if not isinstance(config.get("_class_name"), str):
        raise explain_folder(model, asked) or V2WError(
            asked,
            f"{file} has no _class_name; it has {few(list(config))}",
            "a folder that diffusers' save_pretrained wrote",
        )
    check_config_usable(config, file, asked)
    return config


def read_model(model: Path, folder: Path, asked: str, choice: Choice) -> Weights:
    """The weights in `model`, a folder in `folder` or that one itself.

    Raises:
        V2WError: If there are none that can be read, or a file is linked from elsewhere.
    """
    try:
        weights = read_weights_of(model, asked, choice.variant, any_variant=choice.first)
    except NoWeights as error:
        raise explain_folder(model, asked) or error from None
    refuse_links_out((weights.file, *weights.files), folder, asked)
    return weights


def find_others(
    folder: Path, model: Path, weights: Weights, twin: Path | None
) -> tuple[list[Path], list[str]]:
    """Other files to copy, relative to `folder`; and links that are not followed."""
    own = {model / "config.json", *weights.files}
    others, linked = [], []
    for path in walk(folder):
        relative = path.relative_to(folder)
        if path in own or (path.parent == model and is_weights_name(path.name)) or twin in path.parents:
            continue
        if path.is_symlink() and (path.is_dir() or not path.exists() or is_link_out(path, folder)):
            linked.append(str(relative))
        elif path.is_file():
            others.append(relative)
    return others, linked


def incomplete_parts(folder: Path, component: str) -> list[str]:
    """Notes on the pipeline's encoders, which conversion does not need: those without all their weights."""
    notes = []
    for part in listed(folder):
        if part.name not in (component, "vae") and (part / "config.json").is_file():
            try:
                require_files(part, f"read {part}")
            except V2WError as error:
                notes.append(f"{part.name}/ is not whole: {error.found}")
    return notes


def _no_model(folder: Path, asked: str) -> V2WError:
    return V2WError(
        asked,
        f"neither a pipeline (model_index.json and unet/ or transformer/ with config.json) nor a model "
        f"(config.json and weights); it has {few(names_in(folder))}",
        "a folder that diffusers' save_pretrained wrote",
    )
