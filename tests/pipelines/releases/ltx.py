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

ANGLES = "rotary angles, up to 15,708 radians, to float32"
CONDITION = (
    "`v2w convert` refuses it: its pipeline gives its denoiser positions of its own, in which the first latent frame is one picture long, "
    "and noise levels of its own, whatever its scheduler says"
)

LTX_RELEASES = (
    Release(
        name="LTX-Video 0.9.0",
        plan="ltx-video",
        source=LTX,
        scheduler=DYNAMIC,
        index={"_class_name": "LTXPipeline"},
        sites=SITES,
        vae={**VAE, "timestep_conditioning": False},
        rounds=ANGLES,
        stage="ltx",
    ),
    Release(
        name="LTX-Video 0.9.1",
        plan="ltx-video",
        source=LTX,
        scheduler=DYNAMIC,
        index={"_class_name": "LTXPipeline"},
        vae=VAE,
        rounds=ANGLES,
        stage="ltx",
    ),
    Release(
        name="LTX-Video 0.9.1, from a picture",
        plan="ltx-video",
        source=f"{LTX}; the same folder in LTXImageToVideoPipeline",
        scheduler=DYNAMIC,
        index={"_class_name": "LTXImageToVideoPipeline"},
        vae=VAE,
        rounds=ANGLES,
        stage="ltx_first_frame",
    ),
    Release(
        name="LTX-Video 0.9.5",
        plan="ltx-video",
        source=LTX,
        scheduler=flow_euler(use_dynamic_shifting=False),
        index={"_class_name": "LTXPipeline"},
        vae=VAE,
        rounds=ANGLES,
        stage="ltx",
    ),
    Release(
        name="LTX-Video 0.9.7 13B, in LTXPipeline",
        plan="ltx-video",
        source=LTX,
        scheduler=flow_euler(use_dynamic_shifting=False),
        index={"_class_name": "LTXPipeline"},
        config=LARGE,
        sites={"causal_attention": 48, "action": 1},
        vae=VAE,
        rounds=ANGLES,
        stage="ltx",
    ),
    Release(
        name="LTX-Video 0.9.7 13B",
        plan="ltx-video",
        source=LTX,
        scheduler=flow_euler(use_dynamic_shifting=False),
        index={"_class_name": "LTXConditionPipeline"},
        config=LARGE,
        vae=VAE,
        not_compared=CONDITION,
    ),
    Release(
        name="LTX-Video 0.9.8 13B distilled",
        plan="ltx-video",
        source=f"{LTX}; distilled for the timesteps 1000, 993, 987, 981, 975, 909, 725, 0.03 (documentation, ltx_video)",
        scheduler=flow_euler(use_dynamic_shifting=False),
        index={"_class_name": "LTXConditionPipeline"},
        config=LARGE,
        vae=VAE,
        not_compared=CONDITION,
    ),
)
