"""A checkpoint on the Hugging Face Hub: download what is needed into the library's own cache."""

import re
from pathlib import Path

from v2w_convert.checkpoint.layouts.wan import AUTOENCODER_FILE, CLASSES
from v2w_convert.checkpoint.source import COMPONENTS
from v2w_convert.errors import V2WError
from v2w_convert.hub import REPOSITORY, hub_error
from v2w_convert.strict_json import read_object

COMPONENT = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
VARIANTS = ["*.fp16.*", "*.bf16.*", "*.non_ema.*", "*.fp16-*", "*.bf16-*"]
OTHERS = ["*.bin", "*.ckpt", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx*", "*.xml", "*.gguf", "*.tflite"]


def resolve_hub_id(base: Path, variant: str | None = None) -> Path:
    """`base` itself if it is there or cannot be a repository's id; else where the library keeps that repository.

    Of a pipeline the folders of the components that `model_index.json` names are wanted: config files and weights as
    safetensors, a variant only where it is asked for or there is nothing else, and what torch.save
    wrote only where there is nothing but that. A repository that is a bare model is taken whole.

    Raises:
        V2WError: If it is not found, gated, or cannot be reached and is not in the cache.
    """
    repository = str(base)
    if base.exists() or not REPOSITORY.fullmatch(repository):
        return base
    asked = f"open {repository}"
    try:
        folder = _download(repository, ["model_index.json", "config.json"])
        index = folder / "model_index.json"
        wanted = ["*"]
        if index.is_file():
            names = [name for name in read_object(index) if COMPONENT.fullmatch(name)]
            wanted = ["model_index.json", "README.md", *(f"{name}/*" for name in names)]
        elif (folder / "config.json").is_file():
            if read_object(folder / "config.json").get("_class_name") in CLASSES:  # as its makers publish it
                return _download(repository, ["*.json", "*.safetensors", "README.md", AUTOENCODER_FILE])
        else:
            raise V2WError(asked, "it has neither model_index.json nor config.json", "a diffusers checkpoint")
        unwanted = [pattern for pattern in VARIANTS if variant is None or f".{variant}" not in pattern]
        folder = _download(repository, wanted, [*OTHERS, *unwanted])
        models = [folder / name for name in COMPONENTS if (folder / name).is_dir()] or [folder]
        if not any(list(model.glob("*.safetensors")) for model in models):
            folder = _download(repository, wanted, OTHERS)
        if not any(list(model.glob("*.safetensors")) for model in models):
            folder = _download(repository, wanted, [*(set(OTHERS) - {"*.bin"}), *VARIANTS])
        return folder
    except V2WError:
        raise
    except Exception as error:  # the library's own, those of its transport, and the network's
        raise hub_error(asked, error) from None


def _download(repository: str, allow: list[str], ignore: list[str] | None = None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=allow, ignore_patterns=ignore))
