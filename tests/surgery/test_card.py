from pathlib import Path

from v2w_convert.surgery.card import card
from v2w_convert.surgery.manifest import read_manifest


def test_the_card_says_what_it_is_and_how_to_load_it(tiny_converted: Path) -> None:
    text = (tiny_converted / "README.md").read_text()
    assert text == card(read_manifest(tiny_converted))
    for part in (
        "not yet finetuned",
        "v2w_convert.load",
        "stable-video-diffusion",
        "transfer masked",
        "16 transferred",
    ):
        assert part in text


def test_the_card_of_a_finetuned_model_says_so(tiny_converted: Path) -> None:
    manifest = read_manifest(tiny_converted).model_copy(update={"finetuning": {"steps": 12}})
    assert "finetuned on action data for 12 steps" in card(manifest)
