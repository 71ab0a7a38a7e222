"""Folders that hold no model to convert, known by the names of their files: each is told with what to do instead."""

import re
from pathlib import Path

from v2w_convert.checkpoint.content import LFS, START, check_format
from v2w_convert.checkpoint.listing import few, listed, names_in
from v2w_convert.checkpoint.unusable import MERGE
from v2w_convert.errors import V2WError

UNFINISHED = (".incomplete", ".part", ".crdownload", ".aria2", ".tmp_download")
ADAPTERS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights.bin",
)
CHECKPOINT = re.compile(r"(checkpoint|global_step|step|epoch)[-_]?(\d+)", re.ASCII)
# What accelerate, transformers' Trainer, DeepSpeed and torch's distributed checkpoints leave beside weights.
TRAINER = re.compile(
    r"(optimizer|scheduler|scaler|random_states|rng_state|sampler|dl_state_dict)[\w.-]*\.(bin|pt|pth|pkl)"
    r"|trainer_state\.json|training_args\.bin|zero_to_fp32\.py|zero_pp_rank_.*|global_step\d+/|latest|\.metadata|.*\.distcp",
    re.ASCII,
)
COMPONENTS = ("unet", "transformer", "unet_ema", "transformer_ema")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf")
POINTER_BYTES = 1000  # a Git LFS pointer has about 130


def explain_folder(folder: Path, asked: str) -> V2WError | None:
    """What `folder` is instead of a model or a pipeline, if its files' names tell."""
    names = names_in(folder)
    for explain in (_interrupted, _trained, _adapter, _cache, _other_format):
        if (error := explain(folder, names, asked)) is not None:
            return error
    return None


def check_no_pointers(folder: Path) -> None:
    """Check that no file of weights, of any component, is a Git LFS pointer.

    Raises:
        V2WError: One is.
    """
    homes = [folder, *(path for path in listed(folder) if path.is_dir() and not path.is_symlink())]
    for file in (file for home in homes for file in listed(home)):
        if file.suffix in WEIGHTS and file.is_file() and file.stat().st_size < POINTER_BYTES:
            with file.open("rb") as stream:
                start = stream.read(START)
            if start.startswith(LFS):
                check_format(file, start)


def _interrupted(folder: Path, names: list[str], asked: str) -> V2WError | None:
    unfinished = [name for name in names if name.endswith(UNFINISHED)]
    cache = (
        folder / ".cache" / "huggingface" / "download"
    )  # where `hf download --local-dir` keeps what is under way
    for home in (cache, folder.parent / ".cache" / "huggingface" / "download" / folder.name):
        if home.is_dir():
            unfinished += [file.name for file in sorted(home.rglob("*.incomplete"))]
    if (blobs := folder.parent.parent.parent / "blobs").is_dir():  # the Hub's cache
        unfinished += [file.name for file in sorted(blobs.glob("*.incomplete"))]
    if not unfinished:
        return None
    return V2WError(
        asked,
        f"the download was interrupted ({few(unfinished[:2])})",
        "download it again: hf download continues where it stopped",
    )


def _trained(folder: Path, names: list[str], asked: str) -> V2WError | None:
    """A trainer's checkpoint, or the folder of several."""
    steps = {
        int(match[2]): name
        for name in names
        if name.endswith("/") and (match := CHECKPOINT.fullmatch(name[:-1]))
    }
    states = [name for name in names if TRAINER.fullmatch(name)]
    if not states:
        if not steps:
            return None
        newest = folder / steps[max(steps)][:-1]
        return V2WError(asked, f"the folder of a training run, with {len(steps)} checkpoints", str(newest))
    found = f"a trainer's checkpoint: the state of a training ({few(states[:3])})"
    models = [name for name in COMPONENTS if (folder / name / "config.json").is_file()]
    if models:
        return V2WError(asked, found, f"the model in it: {folder / models[0]}")
    if any(name.startswith(("zero_", "global_step")) for name in names):
        return V2WError(
            asked,
            f"{found}, split by DeepSpeed",
            "python zero_to_fp32.py . OUT, in that folder; then put OUT's weights beside the base's config.json",
        )
    return V2WError(
        asked,
        f"{found} without a config.json",
        "save the model once more: model.load_state_dict(load_file(CHECKPOINT)); model.save_pretrained(BASE)",
    )


def _adapter(folder: Path, names: list[str], asked: str) -> V2WError | None:
    adapters = [name for name in names if name in ADAPTERS]
    found = f"a LoRA ({few(adapters)}): a change of a model, not a model"
    return V2WError(asked, found, MERGE) if adapters else None


def _cache(folder: Path, names: list[str], asked: str) -> V2WError | None:
    if not {"snapshots/", "refs/"} <= {*names}:
        return None
    revisions = [path for path in listed(folder / "snapshots") if path.is_dir()]
    return V2WError(
        asked,
        "a repository in the Hub's cache, whose revisions lie in snapshots/",
        str(revisions[-1]) if revisions else "download it again",
    )


def _other_format(folder: Path, names: list[str], asked: str) -> V2WError | None:
    """Weights, but none that PyTorch reads."""
    if any(name.endswith((".safetensors", ".bin", ".pt", ".pth", ".ckpt")) for name in names):
        return None
    inside = [
        *names,
        *(
            f"{part}/{path.name}"
            for part in COMPONENTS
            if (folder / part).is_dir()
            for path in listed(folder / part)
        ),
    ]
    if any(name.endswith((".safetensors", ".bin")) for name in inside):
        return None
    for endings, what in {
        (".onnx", ".onnx_data"): "an ONNX export: a graph whose weights have no names of the model's",
        (".msgpack", ".h5", ".ckpt.index"): "weights of Flax or TensorFlow",
        (
            ".gguf",
        ): "GGUF files: weights quantised to a few bits, which surgery and training cannot compute with",
    }.items():
        if found := [name for name in inside if name.endswith(endings)]:
            return V2WError(
                asked, f"{what} ({few(found[:2])})", "the PyTorch weights of the same model, as safetensors"
            )
    return None
