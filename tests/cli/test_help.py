"""`v2w --help`, shell completion, and answers that must come quickly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.speed import seconds_here
from v2w_convert.cli import COMMANDS, run


def v2w(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "v2w_convert", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_summaries_are_short_and_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    listed = [line.split(maxsplit=1) for line in lines[lines.index("Commands:") + 1 :] if line.strip()]
    assert listed == [[name, summary] for name, (_, summary) in COMMANDS.items()]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_fits_in_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "..." not in shown.replace("[ARGS]...", "")
    assert "--json" in shown


def test_completion_of_the_shell(tmp_path: Path) -> None:
    done = v2w(_V2W_COMPLETE="complete_bash", COMP_WORDS="v2w con", COMP_CWORD="1", cwd=tmp_path)
    assert done.stdout.split() == ["convert"]
    words = {"COMP_WORDS": "v2w convert --frames", "COMP_CWORD": "2"}
    done = v2w(_V2W_COMPLETE="complete_bash", **words, cwd=tmp_path)
    assert done.stdout.split() == ["--frames-per-block"]
    words = {"COMP_WORDS": "v2w convert --transfer ", "COMP_CWORD": "3"}
    done = v2w(_V2W_COMPLETE="complete_bash", **words, cwd=tmp_path)
    assert done.stdout.split() == ["shift", "masked", "extrapolative"]


def test_completion_is_installed(tmp_path: Path) -> None:
    done = v2w(
        "--install-completion",
        "bash",
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
        HOME=str(tmp_path),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    [script] = [file for file in tmp_path.rglob("v2w*") if file.is_file()]
    assert "_V2W_COMPLETE" in script.read_text()


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "nowhere"], ["convert", "--wrong"]])
def test_light_answers_come_without_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from v2w_convert.cli import run; code = run(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_takes_less_than_a_second_and_no_torch(command: str, tmp_path: Path) -> None:
    code = (
        "import sys, time; from v2w_convert.cli import run; code = run(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules; "
        "sys.stderr.write(str(time.process_time()))"
    )
    arguments = [*filter(None, [command]), "--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stderr) < seconds_here(1)  # seconds of one core, so that a busy machine does not count


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert all(f"  {name} " in err for name in COMMANDS)


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from v2w_convert import api

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "inspect", interrupt)
    assert run(["inspect", "somewhere"]) == 130
    assert capsys.readouterr().err.strip() == "v2w: interrupted: no output was written"
