"""Tiny real diffusers checkpoints."""

import copy
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_unet():
    """A UNetSpatioTemporalConditionModel (Stable Video Diffusion's class) of about half a million numbers."""
    import torch
    from diffusers import UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    return UNetSpatioTemporalConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )


@pytest.fixture(scope="session")
def saved(tiny_unet, tmp_path_factory) -> Path:
    """`plain`, `sharded` and `fp16` (variant files) model folders; do not write there."""
    import torch

    root = tmp_path_factory.mktemp("saved")
    tiny_unet.save_pretrained(root / "plain")
    tiny_unet.save_pretrained(root / "sharded", max_shard_size="200KB")
    half = copy.deepcopy(tiny_unet).to(torch.float16)
    half.save_pretrained(root / "fp16", variant="fp16")
    half.save_pretrained(root / "fp16_sharded", variant="fp16", max_shard_size="200KB")
    return root


@pytest.fixture
def plain(saved, tmp_path) -> Path:
    """A model folder with one weight file, to write in."""
    return shutil.copytree(saved / "plain", tmp_path / "plain")


@pytest.fixture
def sharded(saved, tmp_path) -> Path:
    """A model folder with an index and several shards, to write in."""
    return shutil.copytree(saved / "sharded", tmp_path / "sharded")


@pytest.fixture
def pipeline(saved, tmp_path) -> Path:
    """A pipeline folder with unet, scheduler and vae, to write in."""
    from diffusers import AutoencoderKLTemporalDecoder, DPMSolverMultistepScheduler

    folder = tmp_path / "pipeline"
    shutil.copytree(saved / "plain", folder / "unet")
    # This scheduler's config holds -Infinity, which JSON proper does not know.
    DPMSolverMultistepScheduler().save_pretrained(folder / "scheduler")
    AutoencoderKLTemporalDecoder(block_out_channels=(32,)).save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text('{"_class_name": "StableVideoDiffusionPipeline"}')
    (folder / "README.md").write_text("a card")
    return folder
