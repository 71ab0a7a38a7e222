"""Weights that are not finite, or make what is not, stop every command with the place named; no NaN gets into a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.conftest import MODEL
from tests.hostile.outcomes import REFUSED, documented, of_command, strict

KEPT = "conv_in.weight"
COMMANDS: dict[str, Callable[[Path, Path, Path], list[object]]] = {
    "rollout": lambda model, data, out: ["rollout", model, "--data", data, "-o", out / "a.png", "--frames", 2, "--steps", 2],
    "evaluate": lambda model, data, out: ["evaluate", model, "--data", data, "--history", 2, "--horizons", "1", "--steps", 2],
    "finetune": lambda model, data, out: ["finetune", model, "--data", data, "-o", out / "run", "--steps", 2, "--batch", 2, "--frames", 6],
    "export": lambda model, data, out: ["export", model, "-o", out / "a.onnx", "--height", 8, "--width", 8],
}  # fmt: skip


def weights(file: str, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        held = load_file(model / file)
        save_file(held | {name: change(held[name])}, model / file, {"format": "pt"})

    return spoil


def one(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """One number of a tensor is this."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[tensor.numel() // 2] = value
        return tensor

    return change


ADDED = "unet/v2w_added.safetensors"
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a weight is NaN": (weights(f"unet/{MODEL}", KEPT, one(float("nan"))), KEPT),
    "a weight is infinite": (weights(f"unet/{MODEL}", "conv_out.bias", one(float("-inf"))), "conv_out.bias"),
    "all weights are NaN": (weights(f"unet/{MODEL}", KEPT, lambda x: x * torch.nan), KEPT),
    "weights that overflow": (weights(f"unet/{MODEL}", KEPT, lambda x: torch.full(x.shape, 1e38)), "conv_in"),
    "an autoencoder's weight is NaN": (weights(f"vae/{MODEL}", "encoder.conv_in.weight", one(float("nan"))), "encoder.conv_in.weight"),
    "an autoencoder that overflows": (weights(f"vae/{MODEL}", "encoder.conv_in.weight", lambda x: torch.full(x.shape, 3e38)), "conv_in"),
}  # fmt: skip
QUICK = {
    ("rollout", "a weight is NaN"),
    ("rollout", "weights that overflow"),
    ("finetune", "weights that overflow"),
}
CASES = [
    pytest.param(command, fault, marks=() if (command, fault) in QUICK else pytest.mark.slow)
    for command in COMMANDS
    for fault in FAULTS
    if command != "export" or "autoencoder" not in fault
]


@pytest.mark.parametrize(("command", "fault"), CASES)
def test_a_command_stops_and_says_where(
    command: str, fault: str, converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    if command == "export":
        pytest.importorskip("onnxscript")
    spoil, place = FAULTS[fault]
    spoil(converted)
    (tmp_path / "out").mkdir()
    outcome, said = of_command(*COMMANDS[command](converted, tiny_data, tmp_path / "out"))
    assert outcome == REFUSED, (outcome, said)
    assert place in said, said
    assert "not finite" in said
    for file in (tmp_path / "out").rglob("*.json*"):
        strict(file)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".png", ".onnx")]
    assert not (tmp_path / "out/run/v2w.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a weight is NaN", "weights that overflow"])
def test_verify_says_that_claims_fail_and_writes_no_nan(fault: str, converted: Path, tmp_path: Path) -> None:
    FAULTS[fault][0](converted)
    _, said = of_command("verify", converted, "-o", tmp_path / "report", codes=(1, 2))
    assert "Traceback" not in said
    for file in (tmp_path / "report").rglob("*.json"):
        strict(file)


def test_counts() -> None:
    assert documented("numbers that are not finite: rollout, evaluate, finetune, export, verify") == (
        len(CASES) + 2,
        0,
    )


def test_no_json_is_written_with_nan() -> None:
    """Every call of json.dump and json.dumps says so."""
    import ast

    import v2w_convert

    found = []
    for file in Path(v2w_convert.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps"):
                said: dict[Any, Any] = {k.arg: k.value for k in node.keywords}
                if ast.unparse(said.get("allow_nan", ast.Constant(True))) != "False":
                    found.append(f"{file.name}:{node.lineno}")
    assert not found
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(float("nan"), allow_nan=False)
