"""`v2w convert --prompt`."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.commands import printed, refused
from tests.encoders import tiny
from tests.encoders.pipelines import PROMPTED, Family
from tests.tiny import tiny_resolved
from v2w_convert.encoders.prompt import encode_prompts
from v2w_convert.surgery.manifest import read_manifest

LTX = next(family for family in PROMPTED if family.plan == "ltx-video")
CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path: Path, ltx: Path) -> Path:
    """A pipeline folder to change."""
    return Path(shutil.copytree(ltx, tmp_path / "base"))


@pytest.fixture(scope="module")
def ltx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return LTX.save(tmp_path_factory.mktemp("models") / "base")


def convert(base: Path, name: str, *options: object) -> list[object]:
    return ["convert", base, "-o", base.parent / name, "--action-dim", 3, *options]


def test_the_embedding_of_a_prompt_is_stored(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolved = tiny_resolved(LTX.plan)
    expected = dict(
        zip(["", "a red ball"], encode_prompts(base, resolved, ["", "a red ball"], CPU), strict=True)
    )
    result = printed(capsys, *convert(base, "empty"))
    printed(capsys, *convert(base, "red", "--prompt", "a red ball"))
    assert not any("prompt" in note for note in result["notes"])
    for name, prompt in (("empty", ""), ("red", "a red ball")):
        stored = load_file(base.parent / name / "conditions.safetensors")
        assert stored.keys() == {"text", "text_mask"}
        assert read_manifest(base.parent / name).prompt == prompt
        for condition, value in expected[prompt].items():
            assert torch.equal(stored[condition], value)
    mask = load_file(base.parent / "red" / "conditions.safetensors")["text_mask"]
    assert 0 < mask.sum() < len(mask)  # the base's own, not "all are words"

    assert printed(capsys, *convert(base, "red", "--prompt", "a red ball"))["already_converted"]
    assert "another plan, source or option" in refused(capsys, *convert(base, "red"))
    save_file({"text": torch.zeros(3, 16)}, base.parent / "given.safetensors")
    given = ["--conditions", base.parent / "given.safetensors"]
    assert "both --prompt and --conditions" in refused(capsys, *convert(base, "both", "--prompt", "", *given))
    printed(capsys, *convert(base, "given", *given))
    assert read_manifest(base.parent / "given").prompt is None


def test_without_encoders_the_embedding_is_zeros_and_that_is_said(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        line = refused(capsys, *convert(base, "out", "--prompt", "a"))
        assert "transformers is not installed: pip install 'v2w-convert[text]'" in line
    shutil.rmtree(base / "text_encoder")
    index = json.loads((base / "model_index.json").read_text())
    index |= {"text_encoder": [None, None]}
    (base / "model_index.json").write_text(json.dumps(index))
    assert "there is no text encoder in the folder" in refused(capsys, *convert(base, "out", "--prompt", "a"))
    result = printed(capsys, *convert(base, "out"))
    note = "no prompt is encoded, its embedding is zeros: there is no text encoder in the folder"
    assert note in result["notes"]
    assert not load_file(base.parent / "out" / "conditions.safetensors")["text"].any()
    assert read_manifest(base.parent / "out").prompt is None


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("class", "transformers has no encoder 'os'"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("pickle", "text_encoder holds pytorch_model.bin, a pickle, and only safetensors is read"),
                ("missing", "there is no folder tokenizer, which model_index.json names"),
                ("code", "names code for its attention"),
            )
        ),
        pytest.param("width", "text is (128, 8), the denoiser takes (128, 16)", marks=pytest.mark.slow),
    ],
)
def test_encoders_that_cannot_be_read_are_refused(
    damage: str, expected: str, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, index = base / "text_encoder", base / "model_index.json"
    config = json.loads((folder / "config.json").read_text())
    if damage == "pickle":
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif damage == "class":
        index.write_text(json.dumps(json.loads(index.read_text()) | {"text_encoder": ["transformers", "os"]}))
    elif damage == "missing":
        shutil.rmtree(base / "tokenizer")
    elif damage == "code":
        (folder / "config.json").write_text(json.dumps(config | {"_attn_implementation": "someone/kernel"}))
    else:
        narrow = Family(LTX.pipeline, LTX.plan, LTX.parts | {"text_encoder": lambda: tiny.t5(8)})
        shutil.rmtree(base)
        narrow.save(base)
    line = refused(capsys, *convert(base, "out", "--prompt", "a"))
    assert expected in line
    assert not (base.parent / "out").exists()
