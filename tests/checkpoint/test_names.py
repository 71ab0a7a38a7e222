"""Names as wrappers and averages leave them."""

from pathlib import Path
from typing import Any

import pytest

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.names import choose_average, without_wrappers
from v2w_convert.errors import V2WError


def infos(*names: str) -> dict[str, TensorInfo]:
    return {name: TensorInfo("F32", (1,), Path(name), 0, 4) for name in names}


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["a.weight", "b.bias"], ["a.weight", "b.bias"]),
        (["module.a", "module.b"], ["a", "b"]),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
        (["_orig_mod.module.a", "_orig_mod.module.b"], ["a", "b"]),
        (["_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module.a", "b"], ["blocks.0.a", "b"]),
        (["blocks.0._checkpoint_wrapped_module.a"], ["blocks.0.a"]),
        (["_forward_module.model.a", "_forward_module.model.b"], ["a", "b"]),
        (["module.a", "b"], ["module.a", "b"]),  # a module that is called so
        (
            ["model.diffusion_model.a", "model.diffusion_model.b"],
            ["model.diffusion_model.a", "model.diffusion_model.b"],
        ),
        (["module.model.diffusion_model.a"], ["model.diffusion_model.a"]),
        (["module."], ["module."]),
    ],
)
def test_wrappers_are_stripped(names: list[str], plain: list[str]) -> None:
    found, notes = without_wrappers(infos(*names), "x")
    assert list(found) == plain
    assert [str(info.file) for info in found.values()] == names
    assert bool(notes) == (names != plain)


def test_two_tensors_may_not_get_one_name() -> None:
    with pytest.raises(V2WError, match="share a name: a.b and a._orig_mod.b"):
        without_wrappers(infos("a.b", "a._orig_mod.b"), "x")


def test_averages_are_chosen() -> None:
    tensors: Any = infos("a", "b", "ema.a", "ema.b")
    with pytest.raises(V2WError, match="both the weights and their average .*--no-ema"):
        choose_average(tensors, None, "x")
    chosen, _ = choose_average(tensors, True, "x")
    assert {name: str(info.file) for name, info in chosen.items()} == {"a": "ema.a", "b": "ema.b"}
    assert list(choose_average(tensors, False, "x")[0]) == ["a", "b"]
    assert list(choose_average(infos("ema.a"), None, "x")[0]) == ["a"]
    with pytest.raises(V2WError, match="all its weights are averages"):
        choose_average(infos("ema.a"), False, "x")
    with pytest.raises(V2WError, match="no average"):
        choose_average(infos("a"), True, "x")


def test_the_averages_of_an_ldm_have_names_without_dots() -> None:
    tensors = infos(
        "model.diffusion_model.a.0.weight", "betas", "model_ema.diffusion_modela0weight", "model_ema.decay"
    )
    chosen, _ = choose_average(tensors, True, "x")
    assert str(chosen["model.diffusion_model.a.0.weight"].file) == "model_ema.diffusion_modela0weight"
    assert list(choose_average(tensors, False, "x")[0]) == ["model.diffusion_model.a.0.weight", "betas"]
