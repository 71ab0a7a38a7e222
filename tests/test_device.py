import pytest
import torch

from v2w_convert import device as module
from v2w_convert.device import resolve_device, resolve_dtype
from v2w_convert.errors import V2WError


@pytest.mark.parametrize(
    ("available", "expected"),
    [(["cuda", "mps", "cpu"], "cuda"), (["mps", "cpu"], "mps"), (["cpu"], "cpu")],
)
def test_auto_takes_the_best_device_there_is(
    available: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_available", lambda kind: kind in available)
    assert resolve_device("auto").type == expected


def test_a_named_device_is_that_device() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


def test_names_that_torch_does_not_know_are_refused() -> None:
    for name in ("gpu", "", "cuda:x", "cpu cuda"):
        with pytest.raises(V2WError, match=r"torch knows no such device \(try: auto, cpu"):
            resolve_device(name)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_available", lambda kind: kind == "cpu")
    for name in ("cuda", "cuda:1", "mps", "xpu"):
        with pytest.raises(V2WError, match=r"this machine has no (cuda|mps|xpu) that torch can use"):
            resolve_device(name)
    monkeypatch.setattr(module, "_available", lambda kind: True)
    monkeypatch.setattr(module, "_count", lambda kind: 2)
    with pytest.raises(V2WError, match=r"has 2 cuda devices \(try: cuda:0 to cuda:1\)"):
        resolve_device("cuda:2")


def test_number_formats() -> None:
    assert resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(V2WError, match=r"'int8'.*float32, bfloat16, float16"):
        resolve_dtype("int8")
