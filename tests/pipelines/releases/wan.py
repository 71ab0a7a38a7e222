"""Wan 2.1 and 2.2, SkyReels V2: one class of transformer and near relatives, all sampled by UniPC."""

from tests.pipelines.release import SCRIPTS, Release, flow_unipc

WAN = SCRIPTS + "convert_wan_to_diffusers.py"
SKYREELS = SCRIPTS + "convert_skyreelsv2_to_diffusers.py"
VAE = {"_class_name": "AutoencoderKLWan", "z_dim": 16}
IMAGE = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
TINY_IMAGE = {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}
SMALL = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}

WAN_RELEASES = (
    Release(
        name="Wan 2.1 T2V 14B",
        plan="wan",
        source=WAN,
        scheduler=flow_unipc(3.0),
        index={"_class_name": "WanPipeline"},
        sites={"causal_attention": 40, "action": 1},
        vae=VAE,
        stage="wan",
    ),
    Release(
        name="Wan 2.1 T2V 1.3B",
        plan="wan",
        source=WAN,
        scheduler=flow_unipc(3.0),
        index={"_class_name": "WanPipeline"},
        config=SMALL,
        sites={"causal_attention": 30, "action": 1},
        vae=VAE,
        stage="wan",
    ),
    Release(
        name="Wan 2.1 I2V 14B",
        plan="wan",
        source=WAN,
        scheduler=flow_unipc(3.0),
        index={"_class_name": "WanImageToVideoPipeline"},
        config=IMAGE,
        sites={"causal_attention": 40, "action": 1},
        tiny=TINY_IMAGE,
        vae=VAE,
        stage="wan_image",
    ),
    Release(
        name="Wan 2.2 TI2V 5B",
        plan="wan",
        source=WAN,
        scheduler=flow_unipc(5.0),
        index={"_class_name": "WanPipeline", "expand_timesteps": True},
        config={
            "num_attention_heads": 24,
            "in_channels": 48,
            "out_channels": 48,
            "ffn_dim": 14336,
            "num_layers": 30,
        },
        sites={"causal_attention": 30, "action": 1},
        vae={"_class_name": "AutoencoderKLWan", "z_dim": 48, "is_residual": True, "scale_factor_spatial": 16},
        stage="wan",
    ),
    Release(
        name="Wan 2.2 TI2V 5B, from a picture",
        plan="wan",
        source=f"{WAN}; the same folder in WanImageToVideoPipeline",
        scheduler=flow_unipc(5.0),
        index={"_class_name": "WanImageToVideoPipeline", "expand_timesteps": True},
        vae={"_class_name": "AutoencoderKLWan", "z_dim": 48, "is_residual": True, "scale_factor_spatial": 16},
        stage="wan_first_frame",
    ),
    Release(
        name="Wan 2.2 T2V A14B",
        plan="wan",
        source=WAN,
        scheduler=flow_unipc(3.0),
        index={
            "_class_name": "WanPipeline",
            "boundary_ratio": 0.875,
            "transformer_2": "WanTransformer3DModel",
        },
        vae=VAE,
        stage="wan",
    ),
    Release(
        name="Wan 2.2 I2V A14B",
        plan="wan",
        source=WAN,
        scheduler=flow_unipc(3.0),
        index={
            "_class_name": "WanImageToVideoPipeline",
            "boundary_ratio": 0.9,
            "transformer_2": "WanTransformer3DModel",
        },
        config={"in_channels": 36},
        sites={"causal_attention": 40, "action": 1},
        tiny={"in_channels": 12},
        vae=VAE,
        stage="wan_image",
    ),
)

SKYREELS_RELEASES = (
    Release(
        name="SkyReels V2 T2V 14B",
        plan="skyreels-v2",
        source=f"{SKYREELS}; the shift of 8 is the model card's for text to video",
        scheduler=flow_unipc(8.0),
        index={"_class_name": "SkyReelsV2Pipeline"},
        config={"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
        sites={"causal_attention": 40, "action": 1},
        vae=VAE,
        stage="skyreels",
    ),
    Release(
        name="SkyReels V2 I2V 14B",
        plan="skyreels-v2",
        source=f"{SKYREELS}; the shift of 5 is the model card's for image to video",
        scheduler=flow_unipc(5.0),
        index={"_class_name": "SkyReelsV2ImageToVideoPipeline"},
        config={**IMAGE, "num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
        sites={"causal_attention": 40, "action": 1},
        tiny=TINY_IMAGE,
        vae=VAE,
        stage="skyreels_image",
    ),
    Release(
        name="SkyReels V2 DF 1.3B",
        plan="skyreels-v2",
        source=SKYREELS,
        scheduler=flow_unipc(1.0),
        index={"_class_name": "SkyReelsV2DiffusionForcingPipeline"},
        config={**SMALL, "inject_sample_info": True},
        sites={"causal_attention": 30, "action": 1},
        tiny={"inject_sample_info": True},
        vae=VAE,
        stage="skyreels_forcing",
        next_not_compared="its pipeline overwrites the latents that its solver remembers, so its steps are not UniPC's",
    ),
)
