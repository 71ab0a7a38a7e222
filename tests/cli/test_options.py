"""Flags that are generated from settings models, and `--config`."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field

from v2w_convert.cli.options import SectionedCommand, takes_settings
from v2w_convert.config_file import read_settings, save_settings
from v2w_convert.data.describe_settings import DescribeSettings
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.settings import EvaluateSettings, RolloutSettings
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.recording.settings import RecordSettings
from v2w_convert.surgery.settings import ConvertSettings, InspectSettings
from v2w_convert.verification.settings import VerifySettings
from v2w_convert.web_export.settings import WebSettings

SETTINGS: dict[str, type[BaseModel]] = {
    "inspect": InspectSettings,
    "convert": ConvertSettings,
    "verify": VerifySettings,
    "data": DescribeSettings,
    "record": RecordSettings,
    "finetune": FinetuneSettings,
    "rollout": RolloutSettings,
    "play": PlaySettings,
    "evaluate": EvaluateSettings,
    "export": WebSettings,
}


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    needed: int = Field(ge=1, le=9, description="A number that must be given.")
    two_words: float = Field(default=0.5, gt=0, description="a real number")
    kind: Literal["warm", "cold"] | None = Field(default=None, description="one of two")
    file: Path | None = Field(default=None, description="a file")
    strict: bool = Field(default=False, description="be strict")
    sizes: tuple[int, ...] = Field(default=(1, 2), description="several numbers")


def called(*arguments: str) -> tuple[int | None, Example | None, str]:
    """Runs a command that takes `Example`; returns its exit code, its settings and its own argument."""
    seen: list[Any] = []

    @takes_settings
    def command(base: str, settings: Example) -> None:
        """Do it."""
        seen.extend((settings, base))

    app = typer.Typer(rich_markup_mode=None)
    app.command(cls=SectionedCommand)(command)
    code = app(list(arguments), prog_name="v2w", standalone_mode=False)
    return code, *(seen or (None, ""))


def fault(*arguments: str) -> str:
    with pytest.raises(V2WError) as caught:
        called(*arguments)
    return str(caught.value)


def test_every_field_is_a_flag_with_its_type_and_default() -> None:
    _, settings, base = called("it", "--needed", "3")
    assert base == "it"
    assert settings == Example(needed=3)
    arguments = "--needed 3 --two-words 2 --kind cold --file a/b --strict --sizes 4 --sizes 5"
    _, settings, _ = called("it", *arguments.split())
    assert settings == Example(
        needed=3, two_words=2, kind="cold", file=Path("a/b"), strict=True, sizes=(4, 5)
    )


def test_the_help_lists_flags_by_section(capsys: pytest.CaptureFixture[str]) -> None:
    called("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for phrase in (
        "Usage: v2w [OPTIONS] base",
        "--needed N a number that must be given [required] [1<=x<=9]",
        "--two-words X a real number [default: 0.5]",
        "--kind <warm|cold> one of two",
        "--strict / --no-strict be strict",
        "--sizes N several numbers [default: 1, 2]",
    ):
        assert phrase in shown
    assert [shown.index(s) for s in ("Arguments:", "Input and output:", "Settings:", "Other:")] == sorted(
        shown.index(s) for s in ("Arguments:", "Input and output:", "Settings:", "Other:")
    )


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_file_of_settings_and_flags_that_take_precedence(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"config.{suffix}"
    file.write_text(json.dumps({"needed": 3, "two_words": 1e-5, "strict": True, "sizes": [7]}))
    _, settings, _ = called("it", "--config", str(file))
    assert settings == Example(needed=3, two_words=1e-5, strict=True, sizes=(7,))
    # A flag that is given wins, even where it says what the default is.
    flags = ["--two-words", "0.5", "--no-strict", "--sizes", "1", "--sizes", "2"]
    _, settings, _ = called("it", "--config", str(file), *flags)
    assert settings == Example(needed=3)


def test_faults_of_settings_are_named_all_at_once_with_their_flag_or_line(tmp_path: Path) -> None:
    assert "--needed is missing" in fault("it")
    file = tmp_path / "config.yaml"
    file.write_text("two_words: 0\nneded: 3\nkind: mild\n")
    found = fault("it", "--config", str(file), "--needed", "2")
    assert f"{file}, line 1: two_words: Input should be greater than 0" in found
    assert f"{file}, line 2: neded: unknown setting, nearest is needed" in found
    assert f"{file}, line 3: kind: Input should be 'warm' or 'cold'" in found
    assert "--two-words: Input should be greater than 0" in fault("it", "--needed", "1", "--two-words", "-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("needed: 1\nneeded: 2\n", "line 2: needed is written twice"),
        ("needed: !!python/object:os.system {}\n", "not plain YAML"),
        ("needed: &a 1\nsizes: [*a]\n", "aliases"),
        ("strict: no\nneeded: 1\n", "'no' would be taken for a bool"),
        ("- needed\n", "it does not hold names and values"),
    ],
)
def test_files_that_say_more_than_plain_settings_are_refused(
    tmp_path: Path, text: str, expected: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert expected in fault("it", "--config", str(file))


def test_a_missing_file_of_settings(tmp_path: Path) -> None:
    for name in ("config.yaml", "config.json"):
        assert "no such file" in fault("it", "--config", str(tmp_path / name)).lower()
    (tmp_path / "twice.json").write_text('{"needed": 1, "needed": 2}')
    assert "twice" in fault("it", "--config", str(tmp_path / "twice.json"))


@pytest.mark.parametrize("command", SETTINGS)
def test_settings_are_saved_so_that_they_are_read_again(command: str, tmp_path: Path) -> None:
    model = SETTINGS[command]
    given = {"action_dim": 3} if command == "convert" else {}
    settings = model(**given)
    save_settings(settings, tmp_path / "config.yaml", "a title")
    assert (tmp_path / "config.yaml").read_text().startswith("# a title\n")
    assert read_settings(model, tmp_path / "config.yaml", {}, "run v2w") == settings
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("command", SETTINGS)
def test_every_setting_is_described_and_has_a_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from v2w_convert.cli import run

    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--config FILE" in shown
    for name, field in SETTINGS[command].model_fields.items():
        assert field.description, name
        assert f"--{name.replace('_', '-')}" in shown
