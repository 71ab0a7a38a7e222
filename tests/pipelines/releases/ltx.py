"""LTX-Video: the same transformer with another sampler from release to release."""

from tests.pipelines.release import SCRIPTS, Release, flow_euler

LTX = SCRIPTS + "convert_ltx_to_diffusers.py"
SITES = {"causal_attention": 28, "action": 1}
VAE = {"_class_name": "AutoencoderKLLTXVideo", "latent_channels": 128, "timestep_conditioning": True}
DYNAMIC = flow_euler(
    use_dynamic_shifting=True,
    base_shift=0.95,
    max_shift=2.05,
    base_image_seq_len=1024,
    max_image_seq_len=4096,
    shift_terminal=0.1,
)
LARGE = {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48}

LTX_RELEASES = (
    Release(
        name="LTX-Video 0.9.0",
        plan="ltx-video",
        source=LTX,
        scheduler=DYNAMIC,
        index={"_class_name": "LTXPipeline"},
        sites=SITES,
        vae={**VAE, "timestep_conditioning": False},
        stage="ltx",
    ),
    Release(
        name="LTX-Video 0.9.1",
        plan="ltx-video",
        source=LTX,
        scheduler=DYNAMIC,
        index={"_class_name": "LTXPipeline"},
        vae=VAE,
        stage="ltx",
    ),
    Release(
        name="LTX-Video 0.9.1, from a picture",
        plan="ltx-video",
        source=f"{LTX}; the same folder in LTXImageToVideoPipeline",
        scheduler=DYNAMIC,
        index={"_class_name": "LTXImageToVideoPipeline"},
        vae=VAE,
        stage="ltx_first_frame",
    ),
    Release(
        name="LTX-Video 0.9.5",
        plan="ltx-video",
        source=LTX,
        scheduler=flow_euler(use_dynamic_shifting=False),
        index={"_class_name": "LTXPipeline"},
        vae=VAE,
        stage="ltx",
    ),
    Release(
        name="LTX-Video 0.9.7 13B",
        plan="ltx-video",
        source=LTX,
        scheduler=flow_euler(use_dynamic_shifting=False),
        index={"_class_name": "LTXConditionPipeline"},
        config=LARGE,
        sites={"causal_attention": 48, "action": 1},
        vae=VAE,
        stage="ltx_condition",
    ),
    Release(
        name="LTX-Video 0.9.8 13B distilled",
        plan="ltx-video",
        source=f"{LTX}; the timesteps are those of diffusers' documentation, api/pipelines/ltx_video",
        scheduler=flow_euler(use_dynamic_shifting=False),
        index={"_class_name": "LTXConditionPipeline"},
        config=LARGE,
        vae=VAE,
        stage="ltx_condition",
    ),
)
