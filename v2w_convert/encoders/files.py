"""The files of an encoder, checked before transformers reads any: it believes all that they say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.unusable import check_config_usable
from v2w_convert.checkpoint.weights import read_weights_of
from v2w_convert.errors import V2WError
from v2w_convert.links import refuse_links_out, require_plain
from v2w_convert.strict_json import read_object

CODE = {
    "auto_map",
    "custom_pipelines",
    "trust_remote_code",
    "custom_generate",
}  # entries that start code of a folder
ADAPTER = "adapter_config.json"  # peft's, by which transformers would load weights from anywhere
VOCABULARY = ("tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer.model.json")
MAX_VOCABULARY = 64 * 2**20  # bytes; Gemma's tokenizer.json has 34 MB
MAX_SIZE = 10_000_000  # of a whole number in a config
MAX_SIDE = 4096  # pixels of a picture that an image encoder is given
MAX_LENGTH = 2**20  # tokens
ANY_LENGTH = 10**29  # as transformers writes that a tokenizer has no limit


def check_files(folder: Path, asked: str) -> None:
    """Check what lies in a component's folder, such as text_encoder/.

    Raises:
        V2WError: A link out of it, a pipe, an adapter; or JSON that is malformed, asks for code, a quantizer or another
            implementation, or has absurd numbers.
    """
    if not folder.is_dir():
        raise V2WError(asked, f"there is no folder {folder.name}, which model_index.json names")
    refuse_links_out([folder], folder.parent, asked)
    require_plain(folder, asked)
    for file in sorted(folder.rglob("*.json")):
        if file.name == ADAPTER:
            raise V2WError(asked, f"{folder.name}/{ADAPTER}: an adapter, not an encoder", "without that file")
        if file.name in VOCABULARY:
            if file.stat().st_size > MAX_VOCABULARY:
                raise V2WError(asked, f"{folder.name}/{file.name} has over {MAX_VOCABULARY} bytes")
        elif not file.name.endswith(".index.json"):
            check_entries(read_object(file), f"{folder.name}/{file.relative_to(folder)}", asked)


def check_entries(config: dict[str, Any], file: str, asked: str) -> None:
    """Check the entries of a JSON file of an encoder, nested ones included; for the rest, see `check_files`."""
    check_config_usable(config, file, asked)
    for key, value in entries(config):
        found = ""
        if key in CODE and value:
            found = f"has {key}: it asks for code, which v2w never runs"
        elif key == "quantization_config" and value:
            found = "says that the weights are quantised"
        elif "_implementation" in key and not isinstance(value, bool | None):
            found = "names code for its attention"
        elif type(value) is int and abs(value) > _limit(key):
            found = f"says {key:.80} {value}"
        if found:
            raise V2WError(asked, f"{file} {found}", "without that entry")


def entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every name and value in nested objects and lists; what a list holds goes by the list's name."""
    yield key, value
    if isinstance(value, dict):
        for name, nested in value.items():
            yield from entries(nested, name)
    elif isinstance(value, list):
        for nested in value:
            yield from entries(nested, key)


def _limit(key: str) -> float:
    """The largest whole number that an entry of that name may be."""
    if key == "model_max_length":  # see `check_length`
        return float("inf")
    if key in ("height", "width", "shortest_edge"):
        return MAX_SIDE
    return 100 * MAX_SIZE if key in ("min_pixels", "max_pixels", "longest_edge") else MAX_SIZE


def check_length(tokenizer: Any, name: str, asked: str) -> None:
    """Raise V2WError if a tokenizer would pad prompts to an absurd length."""
    length = getattr(tokenizer, "model_max_length", None)
    if length is not None and not (1 <= length <= MAX_LENGTH or length >= ANY_LENGTH):
        raise V2WError(asked, f"{name} is for prompts of {length} tokens", f"up to {MAX_LENGTH}")


def read_headers(folder: Path, asked: str) -> dict[str, TensorInfo]:
    """The tensors of an encoder, by name; no value is read. Raises V2WError as `read_weights_of` does."""
    weights = read_weights_of(folder, asked, any_variant=True)
    if pickles := [file.name for file in weights.files if file.suffix != ".safetensors"]:
        raise V2WError(asked, f"{folder.name} holds {pickles[0]}, a pickle, and only safetensors is read")
    return weights.tensors
