"""A recipe of the Doom pipeline that is made in seconds, and what stands for recorded play: moving squares."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.squares import moving_square
from v2w_convert.data import Episode, write_dataset

RECIPE: dict[str, Any] = {
    "record": {
        "pretraining": {"deathmatch": 20},
        "validation": {"deathmatch": 10},
        "target": {"scenario": "health_gathering", "train": 10, "validation": 10, "test": 10},
    },
    "autoencoder": {
        "model": {
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "block_out_channels": [4, 4, 8, 8],
            "latent_channels": 6,
            "norm_num_groups": 4,
            "sample_size": 64,
        },
        "course": {"steps": 8, "lr": 1e-3, "batch": 2, "validate_every": 5, "checkpoint_seconds": 0},
    },
    "base": {
        "model": {
            "sample_size": 8,
            "in_channels": 12,
            "out_channels": 6,
            "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
            "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
            "block_out_channels": [32, 32],
            "num_attention_heads": 2,
            "layers_per_block": 1,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24,
            "cross_attention_dim": 8,
            "num_frames": 4,
        },
        "noise": {
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            "clip_sample": False,
        },
        "course": {"steps": 6, "lr": 1e-3, "batch": 2, "validate_every": 4, "checkpoint_seconds": 0},
    },
    "convert": {},
    "finetune": {"flags": {"steps": 3, "batch": 2, "frames": 4, "validate-every": 3, "rollout-episodes": 1}},
    "train_on": {"flags": {"steps": 2, "batch": 2, "frames": 4}},
    "decoder": {"course": {"steps": 2, "lr": 1e-2, "batch": 2, "validate_every": 2}},
    "evaluate": {
        "flags": {
            "steps": 1,
            "history": 2,
            "horizons": [1, 4],
            "samples": 1,
            "long-frames": 4,
            "videos": 0,
            "save-frames": False,
        }
    },
    "ship": {"train": 10, "megabytes": 3},
}
RECORDED = (
    "pretraining/deathmatch-0",
    "validation/deathmatch-0",
    "target/train-0",
    "target/validation-0",
    "target/test-0",
)


def write_recipe(file: Path, **changed: Any) -> Path:
    file.write_text(json.dumps(RECIPE | changed))
    return file


def write_recordings(output: Path) -> None:
    """What the stage `record` leaves, but for its figures: it finds its parts there."""
    for seed, name in enumerate(RECORDED):
        episodes = (moving_square(20, 10 * seed + number) for number in range(2))
        large = [Episode(np.kron(e.frames, np.ones((1, 4, 4, 1), np.uint8)), e.actions) for e in episodes]
        names = ["down", "right", "nothing"]
        write_dataset(large, output / "record" / name, fps=9, action_names=names, task="move", robot="square")
