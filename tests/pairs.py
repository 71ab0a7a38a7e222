"""A tiny pipeline with two denoisers, as Wan 2.2 A14B has them: `transformer` and `transformer_2`, and a boundary."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler

from tests.tiny import ACTIONS, tiny_model, tiny_plan
from v2w_convert.checkpoint.open import open_source
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.convert import convert

BOUNDARY = 0.875
# As diffusers' scripts/convert_wan_to_diffusers.py writes it.
SCHEDULER = {
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "num_train_timesteps": 1000,
    "flow_shift": 3.0,
}


def write_pair(
    folder: Path, vae: Path | None = None, dtype: torch.dtype = torch.float32, **index: Any
) -> Path:
    """A pipeline folder: two denoisers of one architecture, the scheduler, and a copy of `vae`.

    Args:
        folder: A new folder.
        vae: An autoencoder's folder.
        dtype: Of the weights.
        index: Entries of model_index.json other than the usual ones.
    """
    for seed, name in enumerate(("transformer", "transformer_2")):
        tiny_model("wan", seed=seed).to(dtype).save_pretrained(folder / name)
    UniPCMultistepScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    entries = {
        "_class_name": "WanPipeline",
        "boundary_ratio": BOUNDARY,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        **{name: ["diffusers", tiny_plan("wan").base] for name in ("transformer", "transformer_2")},
    }
    (folder / "model_index.json").write_text(json.dumps(entries | index))
    if vae is not None:
        shutil.copytree(vae, folder / "vae")
    return folder


def convert_pair(base: Path, out: Path, **options: Any) -> Path:
    """`base` converted with a window of 4; `options` of the plan's, and `link`."""
    link = options.pop("link", False)
    source = open_source(base)
    plan = adjust_plan(plan_for(source.class_name, source.config), **{"window": 4, **options})
    resolved = resolve(plan, source.config, source.scheduler)
    convert(source, resolved, out, action_dim=ACTIONS, link=link)
    return out
