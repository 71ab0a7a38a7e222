import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from v2w_convert.errors import V2WError
from v2w_convert.surgery.card import BEGIN, END, UNVERIFIED, card_text, read_card, write_card
from v2w_convert.surgery.manifest import read_manifest


def test_the_card_names_the_conversion_and_how_to_load_it(tiny_converted: Path) -> None:
    text = (tiny_converted / "README.md").read_text()
    assert text == card_text(read_manifest(tiny_converted))
    for part in (
        "not yet finetuned",
        "v2w_convert.load",
        "stable-video-diffusion",
        "transfer masked",
        "16 transferred",
    ):
        assert part in text


def test_the_card_of_a_finetuned_model_names_its_steps(tiny_converted: Path) -> None:
    manifest = read_manifest(tiny_converted).model_copy(update={"finetuning": {"steps": 12}})
    assert "finetuned on action data for 12 steps" in card_text(manifest)


def test_the_card_has_a_column_for_each_run(tiny_converted: Path) -> None:
    """The first one first; of a chain without an end, the last eight."""
    first: dict[str, Any] = {"steps": 400, "settings": {"lr": 0.1}, "loss": 0.5}
    said = {"steps": 20, "settings": {"lr": 0.01, "batch": 2}, "before": first}
    text = card_text(read_manifest(tiny_converted).model_copy(update={"finetuning": said}))
    assert "for 20 steps, after 400 of the runs before." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["| | run 1 | run 2 |", "| Steps | 400 | 20 |", "| Clips a step |  | 2 |", "| Learning rate | 0.1 | 0.01 |", "| Loss, last 100 steps | 0.5 |  |"]  # fmt: skip
    first["before"] = said
    assert card_text(read_manifest(tiny_converted).model_copy(update={"finetuning": said})).count("| 20") == 4


def test_the_card_of_a_finetuned_model_says_how_and_what_files_say_does_nothing(tiny_converted: Path) -> None:
    said = {
        "steps": 12,
        "data": {"name": "<b>x</b> | \x1b[31m\n# y" + "z" * 500},
        "settings": {
            "frames": 6,
            "lr": 0.00012345,
            "batch": [1],
            "train": {"a": 1},
            "action_dropout": 10**400,
        },
        "objective": {"levels": "shifted", "self_history": 0.25},
        "validation_loss": {"first": 0.41219, "last": None},
        "loss": "![](http://example.com/x.png)",
    }
    text = card_text(read_manifest(tiny_converted).model_copy(update={"finetuning": said}))
    rows = dict(
        line.strip("| ").split(" | ", 1)
        for line in text.splitlines()
        if line.startswith("| ") and line != "| | |"
    )
    assert {name: rows[name] for name in rows if name not in ("Data", "Loss, last 100 steps")} == {
        "Steps": "12",
        "Latent frames a clip": "6",
        "Learning rate": "0.0001234",
        "Noise levels": "shifted",
        "Clips with a history of the model's own": "0.25",
        "Validation loss before": "0.4122",
    }
    shown = rows["Data"] + rows["Loss, last 100 steps"]
    assert not {"<", "\x1b", "[", "|"} & set(shown) and "z" * 100 in shown and len(shown) < 400
    assert "## Training" not in card_text(read_manifest(tiny_converted))


@pytest.fixture
def folder(tiny_converted: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_converted, tmp_path / "out")


def test_a_new_summary_replaces_the_old_one(folder: Path) -> None:
    manifest, file = read_manifest(folder), folder / "README.md"
    before = file.read_text()
    assert UNVERIFIED in before
    names = sorted(path.name for path in folder.iterdir())
    for summary in ("first \\1\n", "second\n"):
        write_card(folder, read_card(folder, manifest), summary)
        head, _, rest = before.partition(BEGIN)
        assert (
            file.read_text()
            == f"{head}{BEGIN}\n## Verification\n\n{summary}{END}\n{rest.partition(END)[2].lstrip()}"
        )
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_summary_is_appended_to_the_users_own_card(folder: Path) -> None:
    manifest, file = read_manifest(folder), folder / "README.md"
    file.write_text("# Mine\n\nMy words.")
    write_card(folder, read_card(folder, manifest), "measured\n")
    assert file.read_text() == f"# Mine\n\nMy words.\n\n{BEGIN}\n## Verification\n\nmeasured\n{END}\n"
    file.unlink()
    write_card(folder, read_card(folder, manifest), "measured\n")
    assert file.read_text().startswith(card_text(manifest).partition(BEGIN)[0])
    assert "measured" in file.read_text()


def test_a_card_that_is_a_link_is_replaced_and_not_followed(folder: Path, tmp_path: Path) -> None:
    file, other = folder / "README.md", tmp_path / "other.md"
    file.rename(other)
    before = other.read_text()
    file.symlink_to(other)
    write_card(folder, read_card(folder, read_manifest(folder)), "measured\n")
    assert other.read_text() == before
    assert not file.is_symlink()


def test_a_card_that_cannot_be_read_is_refused(folder: Path) -> None:
    manifest, file = read_manifest(folder), folder / "README.md"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(V2WError, match="README.md"):
        read_card(folder, manifest)
    file.write_bytes(b" " * 2_000_000)
    with pytest.raises(V2WError, match="ordinary size"):
        read_card(folder, manifest)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(V2WError, match="not a text file"):
        read_card(folder, manifest)


def test_a_card_that_cannot_be_written_stays_unchanged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folder / "README.md").read_text()
    names = sorted(path.name for path in folder.iterdir())

    def full(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("v2w_convert.new_file.flush_to_disk", full)
    with pytest.raises(V2WError, match="No space left"):
        write_card(folder, text, "measured\n")
    assert (folder / "README.md").read_text() == text
    assert sorted(path.name for path in folder.iterdir()) == names
