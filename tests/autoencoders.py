"""Tiny real video autoencoders, one of each class that is served, for pictures of 16x16 and 32x32."""

from typing import Any

import diffusers
import torch

from v2w_convert.plan.probe import randomize_zero_init

COMMON: dict[str, Any] = {"latent_channels": 4, "layers_per_block": 1}
LTX: dict[str, Any] = {
    "latent_channels": 4,
    "layers_per_block": [1] * 5,
    "decoder_inject_noise": [True, False, False, False, False],
    "patch_size": 1,
    "patch_size_t": 1,
}
TINY: dict[str, dict[str, Any]] = {
    "AutoencoderKLTemporalDecoder": COMMON
    | {"block_out_channels": [32, 32], "down_block_types": ["DownEncoderBlock2D"] * 2},
    "AutoencoderKLAllegro": COMMON
    | {"block_out_channels": [8] * 4, "norm_num_groups": 2, "sample_size": 320, "scaling_factor": 0.13},
    "AutoencoderKLCogVideoX": COMMON
    | {
        "block_out_channels": [8] * 4,
        "down_block_types": ["CogVideoXDownBlock3D"] * 4,
        "up_block_types": ["CogVideoXUpBlock3D"] * 4,
        "norm_num_groups": 2,
    },
    "AutoencoderKLCosmos": {
        "latent_channels": 4,
        "encoder_block_out_channels": [8] * 4,
        "decode_block_out_channels": [8] * 4,
        "attention_resolutions": [8],
        "resolution": 64,
        "num_layers": 1,
        "spatial_compression_ratio": 8,
        "temporal_compression_ratio": 8,
        "latents_mean": [0.1 * i for i in range(12)],  # of 3 frames for each of 4 channels
        "latents_std": [1 + 0.1 * i for i in range(12)],
    },
    "AutoencoderKLHunyuanVideo": COMMON | {"block_out_channels": [8] * 4, "norm_num_groups": 4},
    "AutoencoderKLHunyuanVideo15": COMMON | {"block_out_channels": [8] * 5},
    "AutoencoderKLLTXVideo": LTX
    | {
        "block_out_channels": [8] * 4,
        "decoder_block_out_channels": [8] * 4,
        "decoder_layers_per_block": [1] * 5,
        "spatio_temporal_scaling": [True, True, False, False],
        "decoder_spatio_temporal_scaling": [True, True, False, False],
        "timestep_conditioning": True,
        "scaling_factor": 0.7,
    },
    "AutoencoderKLLTX2Video": LTX
    | {
        "block_out_channels": [8] * 4,
        "decoder_block_out_channels": [16, 32, 64],
        "decoder_layers_per_block": [1] * 4,
        "decoder_inject_noise": [False] * 4,
        "decoder_causal": False,
        "temporal_compression_ratio": 8,
    },
    "AutoencoderKLMagvit": COMMON
    | {
        "block_out_channels": [8] * 4,
        "down_block_types": ["SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3],
        "up_block_types": ["SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3],
        "norm_num_groups": 8,
    },
    "AutoencoderKLMochi": {
        "latent_channels": 4,
        "encoder_block_out_channels": [32] * 4,
        "decoder_block_out_channels": [32] * 4,
        "layers_per_block": [1] * 5,
        "latents_mean": [0.1, -0.2, 0.3, 0.0],
        "latents_std": [0.9, 1.1, 1.2, 0.8],
        "scaling_factor": 0.9,
    },
    "AutoencoderKLWan": {
        "base_dim": 4,
        "z_dim": 4,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "latents_mean": [0.1, -0.2, 0.3, 0.0],
        "latents_std": [0.9, 1.1, 1.2, 0.8],
    },
}


def tiny_autoencoder(name: str, **config: Any) -> Any:
    """Of class `name`, float32, no layer zero."""
    torch.manual_seed(0)
    model = getattr(diffusers, name)(**TINY[name] | config).eval()
    randomize_zero_init(model)
    return model
