"""Tiny real models: built from a config with a fixed seed, saved to disk, read like any other."""

import gc
import math
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import nn

from tests.squares import LENGTHS, write
from tests.tiny import ACTIONS, Config, component, tiny_model, tiny_plan
from v2w_convert import console
from v2w_convert.checkpoint.open import open_source
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.convert import convert

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # subprocesses of tests inherit it: a core per worker
    torch.set_num_threads(1)


# What a command says on the way depends on how slow the machine is: tests of that set these themselves.
console.SOON = console.LOG_EVERY = math.inf


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow-share", type=int, default=1, help="run one of so many slow tests, always the same ones"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share = config.getoption("--slow-share")
    left_out = [
        item for item in items if item.get_closest_marker("slow") and zlib.crc32(item.nodeid.encode()) % share
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_collection_finish() -> None:
    gc.freeze()  # `verify` collects garbage often: leave out what the libraries hold


CLASS = "UNetSpatioTemporalConditionModel"


def tiny_unet(seed: int = 0, **config: object) -> nn.Module:
    """The SVD plan's tiny UNet, float32, in eval mode, zero-initialised layers filled."""
    return tiny_model("stable-video-diffusion", config, seed=seed)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder: unet (tiny, fp16), vae (16x16 pixels -> 8x8x4), scheduler (ddpm, v)."""
    folder = tmp_path_factory.mktemp("models") / "base"
    tiny_unet().half().save_pretrained(folder / "unet")
    torch.manual_seed(1)
    AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=1.0,
    ).half().save_pretrained(folder / "vae")
    DDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    ).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text('{"_class_name": "StableVideoDiffusionPipeline"}\n')
    return folder


@pytest.fixture(scope="session")
def tiny_converted(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_base` converted for three actions."""
    folder = tmp_path_factory.mktemp("models") / "converted"
    source = open_source(tiny_base)
    resolved = resolve(plan_for(source.class_name), source.config, source.scheduler)
    convert(source, resolved, folder, action_dim=ACTIONS)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes of a square that three actions move; latents of `tiny_base`'s autoencoder are 8x8x4."""
    return write(tmp_path_factory.mktemp("data") / "squares", LENGTHS, seed=0)


def _folder_name(name: str, *given: Any) -> str:
    return "-".join(
        [name, *(f"{key}={value}" for part in given for key, value in sorted((part or {}).items()))]
    )


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_checkpoint(plan, config=None)`: a pipeline folder of a plan's tiny model (float32) and `tiny_base`'s vae.

    Written once per session; read only.
    """
    root = tmp_path_factory.mktemp("checkpoints")

    def checkpoint(name: str, config: Config | None = None) -> Path:
        folder = root / _folder_name(name, config)
        if not folder.exists():
            tiny_model(name, config).save_pretrained(folder / component(tiny_plan(name)))
            shutil.copytree(tiny_base / "vae", folder / "vae")
            (folder / "model_index.json").write_text("{}\n")
        return folder

    return checkpoint


@pytest.fixture(scope="session")
def tiny_conversion(
    tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`tiny_conversion(plan, config=None, **view)`: that checkpoint converted for three actions.

    Written once per session; read only.
    """
    root = tmp_path_factory.mktemp("conversions")

    def conversion(name: str, config: Config | None = None, **view: int) -> Path:
        folder = root / _folder_name(name, config, view)
        if not folder.exists():
            source = open_source(tiny_checkpoint(name, config))
            plan = adjust_plan(plan_for(source.class_name, source.config), **view)  # type: ignore[arg-type]
            convert(source, resolve(plan, source.config, source.scheduler), folder, action_dim=ACTIONS)
        return folder

    return conversion
