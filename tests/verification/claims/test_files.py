import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from v2w_convert.checkpoint.open import open_source
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.claims.files import measure_base_files, measure_config, measure_files


def test_files_that_differ_are_missing_or_unknown_are_named(rewritten: Callable[..., Path]) -> None:
    folder = rewritten()
    source, manifest = open_source(folder), read_manifest(folder)
    assert measure_files(source, manifest).ok

    weights = {str(file.relative_to(folder)) for file in source.files}
    first, second = sorted(weights)
    assert weights | {"conditions.safetensors", "vae/config.json"} < manifest.result.keys()
    wrong = manifest.model_copy(
        update={"result": {first: manifest.result[second], "unet/lost.safetensors": "0"}}
    )
    claim = measure_files(source, wrong)
    assert set(claim.where.split(", ")) == {"conditions.safetensors", first, second, "unet/lost.safetensors"}

    for name in (first, "vae/config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert measure_files(source, manifest).where == name
        (folder / name).write_bytes(whole)


def test_another_base_is_recognised_by_its_files(tiny_base: Path, tiny_converted: Path) -> None:
    base, manifest = open_source(tiny_base), read_manifest(tiny_converted)
    assert measure_base_files(base, manifest).ok
    other = manifest.model_copy(update={"source": {"files": {"diffusion_pytorch_model.safetensors": "0"}}})
    assert measure_base_files(base, other).where == "diffusion_pytorch_model.safetensors"


def test_a_config_that_gives_the_weights_another_meaning(tiny_base: Path, tiny_converted: Path) -> None:
    base, converted = open_source(tiny_base), open_source(tiny_converted)
    assert json.loads((tiny_converted / "unet" / "config.json").read_text())["v2w"]
    assert measure_config(base, converted).ok
    other = replace(converted, config=converted.config | {"num_attention_heads": 4})
    assert measure_config(base, other).where == "num_attention_heads"
