"""Open a checkpoint in its makers' layout: the denoiser by diffusers' mapping, and what is known of the rest."""

from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.content import FileContent
from v2w_convert.checkpoint.layouts.layout import Layout
from v2w_convert.checkpoint.layouts.mapping import map_tensors
from v2w_convert.checkpoint.listing import few
from v2w_convert.checkpoint.source import BundledModel, Source
from v2w_convert.errors import V2WError

PARTS = (
    "vae.",
    "text_encoders.",
    "conditioner.",
    "first_stage_model.",
    "cond_stage_model.",
)  # of an all-in-one file


def open_original(
    base: Path,
    files: list[Path],
    content: FileContent,
    layout: Layout,
    prefix: str,
    config: dict[str, Any] | None = None,
    autoencoder: BundledModel | None = None,
) -> Source:
    """The checkpoint whose denoiser has these tensors.

    Args:
        base: The file or folder that was given.
        files: That hold the denoiser's tensors.
        content: All tensors of these files.
        layout: Which one it is.
        prefix: Of the denoiser's names.
        config: The makers' own config.json.
        autoencoder: The autoencoder beside it.

    Raises:
        V2WError: If tensors are missing that tell the config or that diffusers' mapping needs.
    """
    asked = f"open {base}"
    own = {n.removeprefix(prefix): info for n, info in content.tensors.items() if n.startswith(prefix)}
    denoiser = own if prefix else {n: info for n, info in own.items() if not n.startswith(PARTS)}
    faults = [f"{name} {why}" for name, why in content.unread.items() if name.startswith(prefix)]
    if faults:
        raise V2WError(asked, faults[:5])
    try:
        described = {"_class_name": layout.model, **layout.config(denoiser, config or {})}
        tensors = map_tensors(layout.mapping, denoiser)
    except ValueError as error:
        raise V2WError(asked, f"it has {layout.name}, but {error}", _by_diffusers(layout, files[0])) from None
    others = sorted(
        {name.split(".")[0] for name in content.tensors.keys() - {prefix + name for name in denoiser}}
    )
    notes = [
        *content.notes,
        f"it has {layout.name}: tensors are mapped as diffusers does it, the config is inferred from their shapes",
        f"assumed: {layout.assumed}",
    ]
    if others:
        notes.append(f"not read: {few([f'{name}.*' for name in others])}")
    if autoencoder is None:
        notes.append(
            "no autoencoder is read, which `v2w finetune` needs: put the vae/ of the same model's diffusers folder, such "
            f"as {layout.repository}, into the converted folder"
        )
    return Source(
        folder=base,
        component="transformer",
        config=described,
        tensors=tensors,
        scheduler=layout.scheduler(described),
        files=tuple(files),
        others=(),
        converted=False,
        notes=tuple(notes),
        autoencoder=autoencoder,
        pipeline=layout.pipeline,
        renamed=True,
    )


def _by_diffusers(layout: Layout, file: Path) -> str:
    """The two lines of Python that make a diffusers folder of it, if diffusers can."""
    return (
        f"download it again; or let diffusers try: model = {layout.model}.from_single_file({str(file)!r}, "
        f"config={layout.repository!r}, subfolder='transformer'); model.save_pretrained('base')"
    )
