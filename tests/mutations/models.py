"""The models that are broken: a few numbers wide, with every kind of site of their family, converted once."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tests.autoencoders import tiny_autoencoder
from tests.pairs import convert_pair, write_pair
from tests.tiny import component
from v2w_convert.checkpoint.open import open_source
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.surgery.convert import convert

ACTIONS = 3


@dataclass(frozen=True)
class Model:
    """
    plan     name of a shipped plan
    config   what differs from the plan's tiny configuration
    wanted   options of the plan: a window, sinks, blocks
    zeroed   a part of the names of parameters that are zero in the base, as some are when training starts
    pair     a pipeline with two denoisers (`tests.pairs`)
    vae      the class of an autoencoder beside it
    """

    name: str
    plan: str
    config: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)
    zeroed: str = ""
    pair: bool = False
    vae: str = ""

    @cached_property
    def resolved(self) -> ResolvedPlan:
        plan = adjust_plan(read_plan(shipped_plans()[self.plan]), **self.wanted)
        plan = plan.model_copy(update={"tiny": plan.tiny | self.config})
        with torch.device("meta"):
            config = complete_config(build_model(plan.base, plan.tiny))
        return resolve(plan, config)

    def at(self, *operations: str) -> list[str]:
        """The sites of some operations."""
        return [name for name, operation in self.resolved.sites.items() if operation.name in operations]

    def make(self, folder: Path) -> None:
        """`folder`/base and `folder`/out: in bfloat16, so that stored precision and float64 differ."""
        if self.pair:
            base = write_pair(folder / "base", dtype=torch.bfloat16)
            convert_pair(base, folder / "out", **self.wanted)
            return
        plan = self.resolved.plan
        torch.manual_seed(0)
        model = build_model(plan.base, plan.tiny).eval()
        randomize_zero_init(model)
        if self.zeroed:
            for name, parameter in model.named_parameters():
                if self.zeroed in name:
                    torch.nn.init.zeros_(parameter)
        base = folder / "base"
        if self.vae:
            tiny_autoencoder(self.vae).save_pretrained(base / "vae")
            (base / "model_index.json").write_text("{}\n")
        model.to(torch.bfloat16).save_pretrained(base / component(plan) if self.vae else base)
        source = open_source(folder / "base")
        convert(source, self.resolved, folder / "out", action_dim=ACTIONS)


UNET = {
    "block_out_channels": [8],
    "down_block_types": ["CrossAttnDownBlock3D"],
    "up_block_types": ["CrossAttnUpBlock3D"],
}
SVD = {
    "block_out_channels": [32],
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal"],
    "up_block_types": ["CrossAttnUpBlockSpatioTemporal"],
}
# With more conditions than a prompt, so that there are more that can be wrong.
IMAGE_TO_VIDEO: dict[str, dict[str, Any]] = {
    "wan": {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24},
    "cogvideox": {"in_channels": 8, "ofs_embed_dim": 4},
    "hunyuan": {"in_channels": 9, "image_condition_type": "latent_concat"},
}
MODELS = {
    model.name: model
    for model in (
        Model("svd", "stable-video-diffusion", SVD, {"window": 4}),
        Model("wan", "wan", IMAGE_TO_VIDEO["wan"], {"window": 4}),
        Model("cogvideox", "cogvideox", IMAGE_TO_VIDEO["cogvideox"], {"window": 4}),
        Model("hunyuan", "hunyuan-video", IMAGE_TO_VIDEO["hunyuan"], {"window": 4}),
        Model("sana", "sana-video"),
        Model("i2vgen", "i2vgen-xl", UNET, {"window": 4}),
        Model("ltx", "ltx-video", {}, {"window": 4}),
        # less often
        Model("wan, sinks", "wan", {}, {"window": 3, "sinks": 1}),
        Model("wan, blocks of 2", "wan", {}, {"window": 6, "frames_per_block": 2}),
        Model("unet-3d, zero-initialised", "unet-3d", UNET, {"window": 4}, zeroed="conv4"),
        Model("cogvideox-2b", "cogvideox-2b", {}, {"window": 4}),
        Model("latte", "latte"),
        Model("wan, two experts", "wan", {}, {"window": 4}, pair=True),
        Model("animatediff", "animatediff", {}, {"window": 4}),
        Model("hunyuan, text to video", "hunyuan-video", {}, {"window": 4}),
        Model("kandinsky", "kandinsky-5", {}, {"window": 4}),
        # with what makes conditions of a picture
        Model(
            "wan, with its autoencoder", "wan", IMAGE_TO_VIDEO["wan"], {"window": 4}, vae="AutoencoderKLWan"
        ),
        Model(
            "hunyuan, with its autoencoder",
            "hunyuan-video",
            IMAGE_TO_VIDEO["hunyuan"] | {"guidance_embeds": False},
            {"window": 4},
            vae="AutoencoderKLHunyuanVideo",
        ),
    )
}
# Every plan as it is shipped: nothing may be wrong with these.
SHIPPED = {
    f"{name}, as shipped": Model(f"{name}, as shipped", name)
    for name in shipped_plans()
    if not name.startswith("vid2world")
}
