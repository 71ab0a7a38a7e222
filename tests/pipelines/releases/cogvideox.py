"""CogVideoX: 2b with sine positions, 5b with rotary ones, 1.5 with pairs of frames in a token."""

from typing import Any

from tests.pipelines.release import SCRIPTS, Release

COGVIDEOX = SCRIPTS + "convert_cogvideox_to_diffusers.py"
ROTARY = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
V15 = {
    **ROTARY,
    "patch_size_t": 2,
    "patch_bias": False,
    "sample_height": 300,
    "sample_width": 300,
    "sample_frames": 81,
}
VAE = {"_class_name": "AutoencoderKLCogVideoX", "latent_channels": 16, "scaling_factor": 0.7}


def scheduler(snr_shift_scale: float) -> dict[str, Any]:
    return {
        "_class_name": "CogVideoXDDIMScheduler",
        "snr_shift_scale": snr_shift_scale,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "set_alpha_to_one": True,
        "timestep_spacing": "trailing",
    }


COGVIDEOX_RELEASES = (
    Release(
        name="CogVideoX 2b",
        plan="cogvideox-2b",
        source=COGVIDEOX,
        scheduler=scheduler(3.0),
        index={"_class_name": "CogVideoXPipeline"},
        sites={"causal_attention": 30, "frame_position": 1, "action": 1},
        vae={**VAE, "scaling_factor": 1.15258426},
        stage="cogvideox",
    ),
    Release(
        name="CogVideoX 5b",
        plan="cogvideox",
        source=COGVIDEOX,
        scheduler=scheduler(1.0),
        index={"_class_name": "CogVideoXPipeline"},
        config=ROTARY,
        sites={"causal_attention": 42, "action": 1},
        tiny={"sample_frames": 17},
        vae=VAE,
        stage="cogvideox",
    ),
    Release(
        name="CogVideoX 1.5 5b",
        plan="cogvideox-15",
        source=COGVIDEOX,
        scheduler=scheduler(1.0),
        index={"_class_name": "CogVideoXPipeline"},
        config=V15,
        sites={"causal_attention": 42, "action": 1},
        tiny={"sample_frames": 21},
        vae=VAE,
        stage="cogvideox",
    ),
    Release(
        name="CogVideoX 1.5 5b I2V",
        plan="cogvideox-15",
        source=COGVIDEOX,
        scheduler=scheduler(1.0),
        index={"_class_name": "CogVideoXImageToVideoPipeline"},
        config={**V15, "in_channels": 32, "ofs_embed_dim": 512},
        sites={"causal_attention": 42, "action": 1},
        tiny={"sample_frames": 21, "in_channels": 8, "ofs_embed_dim": 4},
        vae={**VAE, "invert_scale_latents": True},
        stage="cogvideox_image",
    ),
    Release(
        name="CogVideoX 5b I2V",
        plan="cogvideox-i2v",
        source=COGVIDEOX,
        scheduler=scheduler(1.0),
        index={"_class_name": "CogVideoXImageToVideoPipeline"},
        config={**ROTARY, "in_channels": 32, "use_learned_positional_embeddings": True},
        sites={"causal_attention": 42, "frame_position": 1, "action": 1},
        vae=VAE,
        stage="cogvideox_image",
    ),
)
