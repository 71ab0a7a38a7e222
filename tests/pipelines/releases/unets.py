"""Stable Video Diffusion, ModelScope, Zeroscope, I2VGen-XL, AnimateDiff, and models that diffusers lacks."""

from typing import Any

from tests.pipelines.release import SCRIPTS, Release

SVD = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,  # of another class, as some of the entries below: diffusers ignores them, too
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "trained_betas": None,
    "use_karras_sigmas": True,
}
SVD_SITES = {"causal_conv": 44, "frame_norm": 44, "causal_attention": 16, "frame_position": 16, "action": 1}
SVD_VAE = {"_class_name": "AutoencoderKLTemporalDecoder", "latent_channels": 4, "scaling_factor": 0.18215}
UNET_SITES = {"causal_conv": 88, "frame_norm": 105, "causal_attention": 34, "action": 1}
VAE = {"_class_name": "AutoencoderKL", "latent_channels": 4, "scaling_factor": 0.18215}
MODELSCOPE = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def none_in_diffusers(name: str, plan: str, source: str, config: dict[str, Any]) -> Release:
    """A release of a model that diffusers lacks: its plan's own noise is what is known of it."""
    return Release(
        name=name,
        plan=plan,
        source=source,
        scheduler={},
        index={},
        config=config,
        sites=UNET_SITES,
        vae=VAE,
        not_compared="diffusers has neither its model nor a pipeline of it",
    )


UNET_RELEASES = (
    Release(
        name="Stable Video Diffusion XT",
        plan="stable-video-diffusion",
        source="stabilityai/stable-video-diffusion-img2vid-xt: scheduler_config.json, model_index.json",
        scheduler=SVD,
        index={"_class_name": "StableVideoDiffusionPipeline"},
        sites=SVD_SITES,
        tiny={"num_frames": 7},
        vae=SVD_VAE,
        stage="svd",
    ),
    Release(
        name="Stable Video Diffusion",
        plan="stable-video-diffusion",
        source="stabilityai/stable-video-diffusion-img2vid: scheduler_config.json, model_index.json",
        scheduler=SVD,
        index={"_class_name": "StableVideoDiffusionPipeline"},
        config={"num_frames": 14},
        sites=SVD_SITES,
        vae=SVD_VAE,
        stage="svd",
    ),
    Release(
        name="ModelScope text-to-video 1.7b",
        plan="unet-3d",
        source="damo-vilab/text-to-video-ms-1.7b: scheduler_config.json",
        scheduler=MODELSCOPE,
        index={"_class_name": "TextToVideoSDPipeline"},
        sites=UNET_SITES,
        vae=VAE,
        stage="modelscope",
    ),
    Release(
        name="Zeroscope v2 576w",
        plan="unet-3d",
        source="cerspense/zeroscope_v2_576w: ModelScope's folder, trained further",
        scheduler=MODELSCOPE,
        index={"_class_name": "TextToVideoSDPipeline"},
        vae=VAE,
        stage="modelscope",
    ),
    Release(
        name="I2VGen-XL",
        plan="i2vgen-xl",
        source=SCRIPTS + "convert_i2vgen_to_diffusers.py",
        scheduler={
            "_class_name": "DDIMScheduler",
            "beta_schedule": "squaredcos_cap_v2",
            "num_train_timesteps": 1000,
            "prediction_type": "v_prediction",
            "clip_sample": False,
            "rescale_betas_zero_snr": True,
            "set_alpha_to_one": True,
            "steps_offset": 1,
            "timestep_spacing": "leading",
        },
        index={"_class_name": "I2VGenXLPipeline"},
        sites={"causal_conv": 88, "frame_norm": 105, "causal_attention": 35, "action": 1},
        vae=VAE,
        stage="i2vgen",
    ),
    Release(
        name="AnimateDiff v1.5.2",
        plan="animatediff",
        source="diffusers' documentation, api/pipelines/animatediff: the adapter with Stable Diffusion 1.5",
        scheduler={
            "_class_name": "DDIMScheduler",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "timestep_spacing": "linspace",
        },
        index={"_class_name": "AnimateDiffPipeline"},
        config={"use_motion_mid_block": True},
        sites={"frame_norm": 21, "frame_position": 21, "causal_attention": 42, "action": 1},
        vae=VAE,
        stage="animatediff",
    ),
    none_in_diffusers("DynamiCrafter 512", "dynamicrafter", "github.com/Doubiiu/DynamiCrafter, configs/", {}),
    none_in_diffusers(
        "DynamiCrafter 256",
        "dynamicrafter",
        "github.com/Doubiiu/DynamiCrafter, configs/",
        {"image_scale_learnable": True, "default_fs": 3},
    ),
)
