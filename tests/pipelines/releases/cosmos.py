"""Cosmos 1.0, 2 and 2.5."""

from tests.pipelines.release import SCRIPTS, Release, flow_euler, flow_unipc

COSMOS = SCRIPTS + "convert_cosmos_to_diffusers.py"
EDM = {
    "_class_name": "EDMEulerScheduler",
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
    "final_sigmas_type": "sigma_min",
}
VAE = {"_class_name": "AutoencoderKLCosmos", "latent_channels": 16, "temporal_compression_ratio": 8}
SITES = {"causal_attention": 28, "frame_position": 1, "action": 1}
LARGE = {"num_attention_heads": 40, "num_layers": 36, "rope_scale": (2.0, 2.0, 2.0)}
PREDICT2 = (
    "`v2w convert` refuses it: it tells the noise level as sigma / (sigma + 1), scales its input and splits its output "
    "in the pipeline, none of which its scheduler's config says"
)

COSMOS_RELEASES = (
    Release(
        name="Cosmos 1.0 7B Text2World",
        plan="cosmos",
        source=COSMOS,
        scheduler=EDM,
        index={"_class_name": "CosmosTextToWorldPipeline"},
        sites=SITES,
        vae=VAE,
        stage="cosmos",
    ),
    Release(
        name="Cosmos 1.0 14B Text2World",
        plan="cosmos",
        source=COSMOS,
        scheduler=EDM,
        index={"_class_name": "CosmosTextToWorldPipeline"},
        config=LARGE,
        sites={"causal_attention": 36, "frame_position": 1, "action": 1},
        tiny={"rope_scale": [2.0, 2.0, 2.0]},
        vae=VAE,
        stage="cosmos",
    ),
    Release(
        name="Cosmos 1.0 7B Video2World",
        plan="cosmos",
        source=COSMOS,
        scheduler=EDM,
        index={"_class_name": "CosmosVideoToWorldPipeline"},
        config={"in_channels": 17},
        tiny={"in_channels": 5},
        vae=VAE,
        stage="cosmos_video",
    ),
    Release(
        name="Cosmos Predict2 2B Video2World",
        plan="cosmos",
        source=COSMOS,
        scheduler=flow_euler(use_karras_sigmas=True),
        index={"_class_name": "Cosmos2VideoToWorldPipeline"},
        config={
            "in_channels": 17,
            "num_attention_heads": 16,
            "rope_scale": (1.0, 3.0, 3.0),
            "extra_pos_embed_type": None,
        },
        tiny={"in_channels": 5, "rope_scale": [1.0, 3.0, 3.0], "extra_pos_embed_type": None},
        vae={"_class_name": "AutoencoderKLWan", "z_dim": 16},
        not_compared=PREDICT2,
    ),
    Release(
        name="Cosmos Predict2.5 2B",
        plan="cosmos",
        source=COSMOS,
        scheduler=flow_unipc(1.0, use_karras_sigmas=True, sigma_max=200.0, sigma_min=0.01),
        index={"_class_name": "Cosmos2_5_PredictBasePipeline"},
        config={
            "in_channels": 17,
            "num_attention_heads": 16,
            "rope_scale": (1.0, 3.0, 3.0),
            "extra_pos_embed_type": None,
            "use_crossattn_projection": True,
            "crossattn_proj_in_channels": 100352,
        },
        tiny={"in_channels": 5, "rope_scale": [1.0, 3.0, 3.0], "extra_pos_embed_type": None},
        vae={"_class_name": "AutoencoderKLWan", "z_dim": 16},
        not_compared=PREDICT2,
    ),
)
