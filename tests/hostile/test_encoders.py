"""Encoders, tokenizers, image processors and model_index.json, spoiled entry by entry: read, or refused in one line."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.encoders.pipelines import PICTURED, PROMPTED, Family
from tests.hostile.outcomes import ODD, REFUSED, documented, of_call, of_command, some, spoiled, violations
from tests.tiny import tiny_resolved
from v2w_convert.console import quiet_libraries
from v2w_convert.encoders.picture import picture_encoder
from v2w_convert.encoders.prompt import encode_prompts

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
WAN = next(family for family in PROMPTED if family.pipeline == "WanPipeline")
SVD = next(family for family in PICTURED if family.pipeline == "StableVideoDiffusionPipeline")
AMOUNTS = ["quick", pytest.param("all", marks=pytest.mark.slow)]
CASES = {"quick": 8, "all": 20}
HUGE: list[Any] = [10**9, 10**7, 10**6, *ODD[3:]]


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(WAN, tmp_path_factory)


@pytest.fixture(scope="module")
def svd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(SVD, tmp_path_factory)


def saved(family: Family, temporary: pytest.TempPathFactory) -> Path:
    with quiet_libraries():
        return family.save(temporary.mktemp("encoders") / "base")


def encode(base: Path) -> None:
    """The prompt, or the picture, as the folder's pipeline has it."""
    picture = "StableVideo" in (base / "model_index.json").read_text()
    family = SVD if picture else WAN
    resolved = tiny_resolved(family.plan, family.config)
    if not picture:
        encode_prompts(base, resolved, ["red"], CPU)
        return
    with picture_encoder(base, resolved, CPU) as found:
        found(np.zeros((16, 16, 3), np.uint8))


def changed(base: Path, values: list[Any]) -> Iterator[tuple[Path, str, Any]]:
    files = [base / "model_index.json", *(f for part in PARTS for f in sorted((base / part).glob("*.json")))]
    for file in files:
        if file.name == "tokenizer.json" or not file.exists():
            continue
        for case, content in spoiled(json.loads(file.read_text()), values):
            yield file, f"{file.parent.name}/{file.name} {case}", content


PARTS = ("text_encoder", "tokenizer", "image_encoder", "feature_extractor")


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("pipeline", ["wan", "svd"])
def test_spoiled_files_of_encoders_are_read_or_refused(
    pipeline: str, amount: str, request: pytest.FixtureRequest
) -> None:
    base: Path = request.getfixturevalue(pipeline)
    found = {}
    for file, case, content in some(changed(base, HUGE), CASES[amount]):
        whole = file.read_text()
        file.write_text(json.dumps(content))
        with quiet_libraries():
            found[case] = of_call(lambda: encode(base))
        file.write_text(whole)
    assert not violations(found)
    assert amount == "quick" or documented("encoders, tokenizers, image processors: entries") == (
        2 * len(found),
        0,
    )


def entry(file: str, **entries: Any) -> Callable[[Path], Any]:
    def spoil(base: Path) -> None:
        content = json.loads((base / file).read_text())
        (base / file).write_text(json.dumps(content | entries))

    return spoil


def index(name: str, kind: Any) -> Callable[[Path], Any]:
    return entry("model_index.json", **{name: kind})


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], Any]:
    def spoil(base: Path) -> None:
        file = base / "text_encoder/model.safetensors"
        held = load_file(file)
        save_file(change(held) or held, file, {"format": "pt"})

    return spoil


def outside(base: Path) -> Path:
    (base.parent / "outside").mkdir(exist_ok=True)
    return base.parent / "outside"


def linked(name: str) -> Callable[[Path], Any]:
    """A file or folder is moved out, and linked."""

    def spoil(base: Path) -> None:
        place = outside(base) / Path(name).name
        shutil.move(base / name, place)
        (base / name).symlink_to(place)

    return spoil


def pipe(name: str) -> Callable[[Path], Any]:
    return lambda base: ((base / name).unlink(missing_ok=True), os.mkfifo(base / name))


CONFIG, TOKENIZER = "text_encoder/config.json", "tokenizer/tokenizer_config.json"
MAKERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code": (entry(CONFIG, auto_map={"AutoModel": "evil.Evil"}), "auto_map"),
    "code of a tokenizer": (entry(TOKENIZER, auto_map={"AutoTokenizer": ["evil.Evil", None]}), "auto_map"),
    "trust": (entry(CONFIG, trust_remote_code=True), "trust_remote_code"),
    "a quantizer": (entry(CONFIG, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}), "quantised"),
    "a quantizer within": (entry(CONFIG, text_config={"quantization_config": {"quant_method": "gptq"}}), "quantised"),
    "an implementation": (entry(CONFIG, _attn_implementation="kernels-community/evil"), "attention"),
    "an adapter": (lambda base: (base / "text_encoder/adapter_config.json").write_text('{"base_model_name_or_path": "evil"}'), "adapter"),
    "a vocabulary of a billion": (entry(CONFIG, vocab_size=10**9), "vocab_size"),
    "a vocabulary of ten millions": (entry(CONFIG, vocab_size=10**7), "weights hold"),
    "a million layers": (entry(CONFIG, num_layers=10**6), ""),
    "layers without end": (entry(CONFIG, num_layers=10**30), ""),
    "NaN": (entry(CONFIG, dropout_rate=float("nan")), "NaN"),
    "prompts of a billion tokens": (entry(TOKENIZER, model_max_length=10**9), "tokens"),
    "no class": (index("text_encoder", ["transformers", None]), "no encoder"),
    "a class of its own": (index("text_encoder", ["transformers", "Evil"]), "no encoder"),
    "a class by path": (index("text_encoder", ["transformers", "__class__"]), "no encoder"),
    "a class of another kind": (index("text_encoder", ["transformers", "Trainer"]), "no encoder"),
    "any class": (index("text_encoder", ["transformers", "AutoModel"]), "no encoder"),
    "a class that is a list": (index("text_encoder", ["transformers", ["a"]]), "no encoder"),
    "no folder": (lambda base: shutil.rmtree(base / "tokenizer"), "tokenizer"),
    "a config that is a pipe": (pipe(CONFIG), "neither"),
    "a tokenizer that is a pipe": (pipe("tokenizer/tokenizer.json"), "neither"),
    "weights that are a pipe": (pipe("text_encoder/model.safetensors"), "neither"),
    "a config from elsewhere": (linked(CONFIG), "link"),
    "a tokenizer from elsewhere": (linked("tokenizer/tokenizer.json"), "link"),
    "weights from elsewhere": (linked("text_encoder/model.safetensors"), "link"),
    "a folder from elsewhere": (linked("tokenizer"), "link"),
    "a vocabulary of 200 MB": (lambda base: os.truncate(base / "tokenizer/tokenizer.json", 2 * 10**8), "bytes"),
    "a vocabulary of garbage": (lambda base: (base / "tokenizer/tokenizer.json").write_bytes(bytes(range(256))), "tokenizer"),
    "an empty config": (lambda base: (base / CONFIG).write_text(""), "config.json"),
    "weights that are NaN": (weights(lambda held: {k: v * torch.nan for k, v in held.items()}), "not finite"),
    "one weight that is NaN": (weights(lambda held: held["encoder.final_layer_norm.weight"].fill_(torch.nan) is None), "encoder.final_layer_norm.weight"),
    "a weight too few": (weights(lambda held: held.pop("encoder.final_layer_norm.weight") is None), "weights hold"),
    "a weight of another name": (weights(lambda held: held | {"a": held.pop("encoder.final_layer_norm.weight")}), "encoder.final_layer_norm.weight"),
    "a weight of another shape": (weights(lambda held: held | {"encoder.final_layer_norm.weight": torch.ones(3)}), "text_encoder"),
    "a pickle": (lambda base: torch.save({}, base / "text_encoder/model.safetensors"), ""),
}  # fmt: skip
QUICK = {"code", "a quantizer within", "a vocabulary of ten millions", "a config that is a pipe", "one weight that is NaN"}  # fmt: skip


@pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in MAKERS]
)
def test_a_prompt_is_not_encoded_by_what_cannot_be_trusted(case: str, wan: Path, tmp_path: Path) -> None:
    base = shutil.copytree(wan, tmp_path / "base")
    spoil, mention = MAKERS[case]
    spoil(base)
    outcome, said = of_command("convert", base, "-o", tmp_path / "out", "--action-dim", 3, "--prompt", "red")
    assert outcome == REFUSED, (outcome, said)
    assert mention in said
    assert not (tmp_path / "out").exists()


def test_counts() -> None:
    assert documented("encoders, tokenizers, image processors: files") == (len(MAKERS) + 2, 0)


def test_a_component_by_path_is_no_component(wan: Path, tmp_path: Path) -> None:
    """Its name would become a path. It is not read, and the prompt is encoded by the others."""
    base = shutil.copytree(wan, tmp_path / "base")
    index("text_encoder/../../outside", ["transformers", "T5EncoderModel"])(base)
    outside(base)
    encode(base)


def test_a_picture_of_a_billion_pixels_is_refused(svd: Path, tmp_path: Path) -> None:
    base = shutil.copytree(svd, tmp_path / "base")
    entry("feature_extractor/preprocessor_config.json", size={"shortest_edge": 10**5})(base)
    assert of_call(lambda: encode(base)) == REFUSED
