"""Held-out action data, a world ready to be trained, and settings for short runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.squares import write
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World


@pytest.fixture(scope="session")
def write_squares() -> Callable[..., Path]:
    """The function that writes such data to a new folder."""
    return write


@pytest.fixture(scope="session")
def tiny_validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "held_out", (8, 8), seed=100)


@pytest.fixture
def world(tiny_converted: Path) -> World:
    """Ready to be trained."""
    return load(tiny_converted, dtype=torch.float32).train().requires_grad_(True)


@pytest.fixture(scope="session")
def settings(tiny_validation: Path) -> FinetuneSettings:
    """Four short steps with everything on that a resumed run has to get right."""
    return FinetuneSettings(
        steps=4,
        batch=2,
        frames=6,
        lr=1e-3,
        warmup=0.25,
        validation=tiny_validation,
        validate_every=2,
        validation_clips=2,
        checkpoint_every=2,
        keep_checkpoints=2,
    )
