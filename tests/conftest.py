"""Tiny real models: built from a config with a fixed seed, saved to disk, read like any other."""

import gc
import os
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import nn

from tests.squares import LENGTHS, write
from v2w_convert.checkpoint.source import open_source
from v2w_convert.families.build import build_model
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.convert import convert

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # of what tests start, too: workers have a core each
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    gc.freeze()  # `verify` collects garbage often: what the libraries hold is none


ACTIONS = 3
CLASS = "UNetSpatioTemporalConditionModel"


def tiny_unet(seed: int = 0, **config: object) -> nn.Module:
    """The SVD plan's tiny UNet, float32, all zero-initialised layers woken."""
    torch.manual_seed(seed)
    model = build_model(CLASS, {**plan_for(CLASS).tiny, **config}).eval()
    randomize_zero_init(model)
    return model


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
