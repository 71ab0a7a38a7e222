"""A pipeline of diffusers around a folder's encoders, without autoencoder and without the denoiser's weights."""

import gc
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch

from v2w_convert.checkpoint.listing import few
from v2w_convert.checkpoint.weights import find_weights
from v2w_convert.console import quiet_libraries
from v2w_convert.encoders.families import ENCODERS, TOKENIZERS
from v2w_convert.encoders.files import check_files, check_length, read_headers
from v2w_convert.errors import V2WError, one_line
from v2w_convert.families.build import build_empty, limited
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.strict_json import read_object
from v2w_convert.world.finite import is_finite
from v2w_convert.world.vae_kinds import KINDS

INDEX = "model_index.json"
AGAIN = "download the folder again, or --conditions with embeddings of your own"
INSTALL = "pip install 'v2w-convert[text]'"


def pipeline_name(folder: Path) -> str:
    """The class that the folder's model_index.json names; "" if there is none."""
    name = read_object(folder / INDEX).get("_class_name") if (folder / INDEX).is_file() else None
    return name if isinstance(name, str) else ""


def transformers_installed() -> bool:
    """Whether the package that the encoders need can be imported."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def encoders_named(folder: Path, part: Callable[[str], bool]) -> dict[str, str]:
    """Those of the folder's components that `part` picks by name -> their class in transformers."""
    if not (folder / INDEX).is_file():
        return {}
    return {
        name: str(entry[1])
        for name, entry in read_object(folder / INDEX).items()
        # By an identifier: the name becomes that of a folder.
        if name.isidentifier() and part(name) and isinstance(entry, list) and entry[:1] == ["transformers"]
        if len(entry) == 2
    }


def weights_obstacle(folder: Path, names: Iterable[str]) -> str | None:
    """Why the weights of one of these components cannot be read; None: they can."""
    for name in names:
        if not name.startswith(("text_encoder", "image_encoder")):
            continue
        try:
            found = find_weights(folder / name, "read an encoder", any_variant=True)
        except V2WError as error:
            return f"{name}: {error.found}"
        if found.kind != "safetensors":
            return f"{name} holds {found.file.name}, a pickle, and only safetensors is read"
    return None


@contextmanager
def encoder_pipeline(
    folder: Path, resolved: ResolvedPlan, names: dict[str, str], device: torch.device
) -> Iterator[Any]:
    """The folder's pipeline with those encoders only, freed when the block ends.

    Args:
        folder: A pipeline folder.
        resolved: The plan for its denoiser, whose config some pipelines ask.
        names: Component -> class in transformers, as `encoders_named` gives them.
        device: Where the encoders go. Each is in the dtype that it is stored in.

    Raises:
        V2WError: An encoder cannot be read. No code of the folder is run, no pickle is opened.
    """
    asked = f"read the encoders of {folder}"
    with _quiet():
        parts = {name: _component(folder / name, kind, device, asked) for name, kind in names.items()}
        pipeline = _pipeline(folder, resolved, parts, asked)
        try:
            with torch.no_grad():
                yield pipeline
        finally:
            del parts, pipeline
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _pipeline(folder: Path, resolved: ResolvedPlan, parts: dict[str, Any], asked: str) -> Any:
    kind = getattr(diffusers, pipeline_name(folder))
    known = inspect.signature(kind.__init__).parameters
    # Numbers and flags of model_index.json, such as Mochi's force_zeros_for_empty_prompt.
    given = read_object(folder / INDEX)
    given = {
        key: value
        for key, value in given.items()
        if key in known and isinstance(value, bool | int | float | str | None)
    }
    for name, parameter in known.items():
        if name in ("transformer", "unet"):
            given[name] = resolved.base  # on the meta device: only its config is asked for
        elif name == "vae":
            given[name] = _autoencoder(folder)
        elif name == "safety_checker":
            given[name] = _Unchecked()
        elif name != "self" and parameter.default is inspect.Parameter.empty:
            given[name] = None
    with one_line_of(INDEX, asked):
        return kind(**given | parts)


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither warnings nor progress bars of transformers."""
    import transformers

    logging: Any = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quiet_libraries():
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


class _Unchecked(torch.nn.Module):
    """In place of a pipeline's check of prompts and videos, which encodes nothing."""


def _autoencoder(folder: Path) -> Any:
    """The folder's autoencoder on the meta device, for its config; None where there is none that can be built."""
    file = folder / "vae" / "config.json"
    if not file.is_file():
        return None
    config = read_object(file)
    try:
        return build_empty(config["_class_name"], config) if config["_class_name"] in KINDS else None
    except Exception:  # an autoencoder that is not served is told of elsewhere
        return None


def _component(folder: Path, name: str, device: torch.device, asked: str) -> Any:
    """The tokenizer, image processor or model in `folder`."""
    import transformers

    kind: Any = getattr(transformers, name, None) if name in ENCODERS | TOKENIZERS else None
    if kind is None:
        raise V2WError(asked, f"transformers has no encoder {name!r:.80}", "a newer version of transformers")
    check_files(folder, asked)
    if name in TOKENIZERS:
        with one_line_of(folder.name, asked):
            found = kind.from_pretrained(folder, local_files_only=True)
        check_length(found, folder.name, asked)
        return found
    with one_line_of(folder.name, asked):
        _require_sizes(kind, folder, asked)
        loaded, told = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=find_weights(folder, asked, any_variant=True).variant,
            torch_dtype="auto",
            output_loading_info=True,
        )
    if missing := sorted(told["missing_keys"]):
        raise V2WError(asked, f"{folder.name}: {few(missing[:3])} is missing in its weights", AGAIN)
    if bad := [tensor for tensor, value in loaded.state_dict().items() if not is_finite(value)]:
        raise V2WError(asked, f"{folder.name}: {few(bad[:3])} has numbers that are not finite", AGAIN)
    return loaded.eval().requires_grad_(False).to(device)


def _require_sizes(kind: Any, folder: Path, asked: str) -> None:
    """Raise ValueError if a model of transformers would be larger than what its files hold."""
    held = sum(math.prod(info.shape) for info in read_headers(folder, asked).values())
    config = kind.config_class.from_dict(read_object(folder / "config.json"))
    with torch.device("meta"), limited():
        described = sum(parameter.numel() for parameter in kind(config).parameters())
    if described > held:
        raise ValueError(f"its config.json describes {described} numbers, its weights hold {held}")


@contextmanager
def one_line_of(name: str, asked: str, try_: str = AGAIN) -> Iterator[None]:
    """Within it, whatever transformers makes of files that are not its own becomes a V2WError.

    That includes panics of tokenizers' Rust, which are no `Exception`.
    """
    try:
        yield
    except V2WError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise V2WError(asked, f"{name}: {one_line(error)}", try_) from None
