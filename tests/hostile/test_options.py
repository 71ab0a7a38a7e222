"""Values of options that cannot be meant: every setting of every command, as a flag, in a file, and in Python."""

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
import torch
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tests.cli.test_options import SETTINGS
from tests.hostile.conftest import Refused
from tests.hostile.counts import documented
from v2w_convert.cli.options import _plain_types, flag

NUMBERS = ["", "x", "\x1b[2J", "1e999", "0x10", "1_"]
FLOATS = [*NUMBERS, "nan", "inf", "-inf", "NaN", "Infinity", "-1e308", "1e308"]
INTS = [*NUMBERS, "nan", "inf", "1.5", "-1", str(2**63), str(2**64), "1" + 30 * "0", "9" * 5000]
WORDS = ["", "nonsense", "Float32", "\x1b[31m", "float32 "]
NAMES = ["", "\x1b[31m" * 500]
IN_FILES: dict[type, list[Any]] = {
    float: [math.nan, math.inf, -math.inf, 1e308, -1e308, "x", "", [], {}, [1.0]],
    int: [-1, 1.5, 2**63, 2**64, 10**30, math.nan, math.inf, "x", "", [], {}],
    bool: ["maybe", 2, 1.5, "", [], {}, math.nan],
    str: ["\0", 1, [], {}, math.nan, "x" * 100_001],
    Path: ["", "a\0b", 1, [], {}, math.nan],
}
CHOICES = ["0", "3,", ",", "3;2", "3,0", "03", "10000", "-1", "3.0", "\u0663", "3 ", "3\n"]
FILES: dict[str, list[str]] = {  # what a command needs besides settings; nothing is there
    "inspect": ["nowhere"],
    "convert": ["nowhere", "-o", "out"],
    "verify": ["nowhere"],
    "data": ["nowhere"],
    "record": ["nowhere", "-o", "out"],
    "finetune": ["nowhere", "--data", "nowhere", "-o", "out"],
    "rollout": ["nowhere", "--data", "nowhere", "-o", "out.mp4"],
    "evaluate": ["nowhere", "--data", "nowhere"],
    "export": ["nowhere", "-o", "out.onnx"],
    "play": ["nowhere", "--data", "nowhere"],
}
NEEDED = {"convert": {"action_dim": 3}}


def kind(field: FieldInfo) -> Any:
    """The type of a field's value, or Literal."""
    [found] = _plain_types(field.annotation)
    return Literal if get_origin(found) is Literal else found


def flag_cases() -> Iterator[tuple[str, str, str]]:
    """Command, setting, and a value of its flag."""
    values: dict[Any, list[str]] = {float: FLOATS, int: INTS, Literal: WORDS, str: NAMES, Path: [""]}
    for command, model in SETTINGS.items():
        for name, field in model.model_fields.items():
            for value in [*values.get(kind(field), []), *(CHOICES if name == "choices" else [])]:
                if (name, value) not in {("prompt", ""), ("prompt", NAMES[1])}:
                    yield command, name, value


def file_cases() -> Iterator[tuple[str, str, Any]]:
    """Command, setting, and a value in a file of settings, or in Python."""
    for command, model in SETTINGS.items():
        for name, field in model.model_fields.items():
            if kind(field) is Literal:
                values = ("nonsense", "", 1, {}, math.nan)
                several = get_origin(field.annotation) is tuple  # none of several choices is an answer, too
                yield from ((command, name, value) for value in (*values, ["nonsense"] if several else []))
            else:
                values = [
                    value for value in IN_FILES[kind(field)] if not (value == [] and field.default == ())
                ]
                values += CHOICES if name == "choices" else []
                yield from ((command, name, value) for value in values)


def of(command: str, cases: Iterator[tuple[str, str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for given, name, value in cases if given == command]


def needed(command: str, name: str) -> list[str]:
    return [
        word
        for key, value in NEEDED.get(command, {}).items()
        if key != name
        for word in (flag(key), str(value))
    ]


def test_the_page_counts_the_cases() -> None:
    assert documented("values of flags") == (len(list(flag_cases())), 0)
    assert documented("values in a file of settings, and in Python") == (2 * len(list(file_cases())), 0)
    assert documented("devices, steps and noise levels that a model or machine does not have") == (
        len(MODEL_CASES),
        0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", SETTINGS)
def test_flags(command: str, refused: Refused) -> None:
    for name, value in of(command, flag_cases()):
        line = refused(command, *FILES[command], *needed(command, name), f"{flag(name)}={value}")
        assert flag(name) in line and "nowhere:" not in line, line


@pytest.mark.slow
@pytest.mark.parametrize("command", SETTINGS)
def test_files_of_settings(command: str, tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "settings.json"
    for name, value in of(command, file_cases()):
        file.write_text(json.dumps({**NEEDED.get(command, {}), name: value}))
        line = refused(command, *FILES[command], "--config", file)
        assert (name in line or "no number in JSON" in line) and "nowhere:" not in line, line


@pytest.mark.parametrize("command", SETTINGS)
def test_settings_in_python(command: str) -> None:
    model: type[BaseModel] = SETTINGS[command]
    for name, value in of(command, file_cases()):
        with pytest.raises(ValidationError, match=name):
            model(**{**NEEDED.get(command, {}), name: value})


DEVICES = [
    "nonsense",
    "meta",
    "cpu:7",
    "cpu:255",
    "cuda:99",
    "cuda:-1",
    "cuda:" + "9" * 30,
    "CPU",
    "mkldnn",
    "cpu\n",
]
MODEL_CASES: list[tuple[str, list[str]]] = [
    *itertools.product(
        ("convert", "rollout", "evaluate", "finetune"), ([f"--device={name}"] for name in DEVICES)
    ),
    *itertools.product(("rollout", "evaluate", "export"), (["--steps=1001"], ["--steps=1000000"])),
    *itertools.product(("rollout", "evaluate"), (["--context-noise=1000.5"], ["--context-noise=1e6"])),
    *itertools.product(
        ("rollout", "evaluate"),
        (["--history-guidance=2", "--history-guidance-noise=1000.5"], ["--history-guidance-noise=100"]),
    ),
]


@pytest.mark.parametrize("command", ["convert", "rollout", "evaluate", "finetune", "export"])
def test_what_the_machine_or_the_model_does_not_have(
    command: str, tiny_base: Path, tiny_converted: Path, tiny_data: Path, home: Path, refused: Refused
) -> None:
    data = ["--data", tiny_data]
    arguments = {
        "convert": [tiny_base, "-o", home / "out", "--action-dim", 3],
        "finetune": [tiny_converted, *data, "-o", home / "out"],
        "rollout": [tiny_converted, *data, "-o", home / "out.mp4"],
        "evaluate": [tiny_converted, *data, "-o", home / "out.json"],
        "export": [tiny_converted, "-o", home / "out.onnx"],
    }[command]
    for given, option in MODEL_CASES:
        if given == command:
            refused(command, *arguments, *option)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a card")
def test_a_card_that_is_not_there(
    tiny_converted: Path, tiny_data: Path, home: Path, refused: Refused
) -> None:
    line = refused("rollout", tiny_converted, "--data", tiny_data, "-o", home / "out.mp4", "--device", "cuda")
    assert "no cuda" in line
