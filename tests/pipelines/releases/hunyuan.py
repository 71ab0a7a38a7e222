"""HunyuanVideo and 1.5, Kandinsky 5, Mochi: transformers sampled by Euler steps of flow matching."""

from tests.pipelines.release import SCRIPTS, Release, flow_euler

HUNYUAN = SCRIPTS + "convert_hunyuan_video_to_diffusers.py"
HUNYUAN15 = SCRIPTS + "convert_hunyuan_video1_5_to_diffusers.py"
KANDINSKY = "github.com/kandinskylab/kandinsky-5, configs/"
VAE = {"_class_name": "AutoencoderKLHunyuanVideo", "latent_channels": 16, "scaling_factor": 0.476986}
VAE15 = {"_class_name": "AutoencoderKLHunyuanVideo15", "latent_channels": 32, "scaling_factor": 1.03682}
LITE = {
    "in_visual_dim": 16,
    "out_visual_dim": 16,
    "model_dim": 1792,
    "ff_dim": 7168,
    "visual_cond": True,
}
HUNYUAN_SITES = {"causal_attention": 60, "action": 1}
ROTATED = "rotated queries and keys to bfloat16"
KANDINSKY_SITES = {"causal_attention": 32, "action": 1}

HUNYUAN_RELEASES = (
    Release(
        name="HunyuanVideo",
        plan="hunyuan-video",
        source=HUNYUAN,
        scheduler=flow_euler(shift=7.0),
        index={"_class_name": "HunyuanVideoPipeline"},
        sites=HUNYUAN_SITES,
        vae=VAE,
        stage="hunyuan",
    ),
    Release(
        name="HunyuanVideo I2V, 33 channels",
        plan="hunyuan-video",
        source=HUNYUAN,
        scheduler=flow_euler(shift=7.0),
        index={"_class_name": "HunyuanVideoImageToVideoPipeline"},
        config={"in_channels": 33, "image_condition_type": "latent_concat", "guidance_embeds": False},
        sites=HUNYUAN_SITES,
        tiny={"in_channels": 9, "image_condition_type": "latent_concat", "guidance_embeds": False},
        vae=VAE,
        stage="hunyuan_image",
    ),
    Release(
        name="HunyuanVideo I2V, 16 channels",
        plan="hunyuan-video",
        source=HUNYUAN,
        scheduler=flow_euler(shift=7.0),
        index={"_class_name": "HunyuanVideoImageToVideoPipeline"},
        config={"image_condition_type": "token_replace"},
        tiny={"image_condition_type": "token_replace"},
        vae=VAE,
        not_compared="`v2w convert` refuses it: its first frame is modulated apart from the others (token_replace)",
    ),
    Release(
        name="HunyuanVideo 1.5 480p T2V",
        plan="hunyuan-video-15",
        source=HUNYUAN15,
        scheduler=flow_euler(shift=5.0),
        index={"_class_name": "HunyuanVideo15Pipeline"},
        sites={"causal_attention": 54, "action": 1},
        tiny={"in_channels": 9},
        vae=VAE15,
        stage="hunyuan15",
    ),
    Release(
        name="HunyuanVideo 1.5 720p I2V",
        plan="hunyuan-video-15",
        source=HUNYUAN15,
        scheduler=flow_euler(shift=7.0),
        index={"_class_name": "HunyuanVideo15ImageToVideoPipeline"},
        config={"target_size": 960, "task_type": "i2v"},
        tiny={"in_channels": 9, "task_type": "i2v"},
        vae=VAE15,
        stage="hunyuan15_image",
    ),
)

KANDINSKY_RELEASES = (
    Release(
        name="Kandinsky 5 Lite T2V 5s",
        plan="kandinsky-5",
        source=f"{KANDINSKY}k5_lite_t2v_5s; sampled with shift 5",
        scheduler=flow_euler(shift=5.0),
        index={"_class_name": "Kandinsky5T2VPipeline"},
        config=LITE,
        sites=KANDINSKY_SITES,
        tiny={"visual_cond": True},
        vae=VAE,
        rounds=ROTATED,
        stage="kandinsky",
    ),
    Release(
        name="Kandinsky 5 Lite I2V 5s",
        plan="kandinsky-5",
        source=f"{KANDINSKY}k5_lite_i2v_5s_sft_sd.yaml; sampled with shift 5",
        scheduler=flow_euler(shift=5.0),
        index={"_class_name": "Kandinsky5I2VPipeline"},
        config=LITE,
        sites=KANDINSKY_SITES,
        tiny={"visual_cond": True},
        vae=VAE,
        rounds=ROTATED,
        stage="kandinsky_image",
    ),
    Release(
        name="Kandinsky 5 Pro T2V 5s",
        plan="kandinsky-5",
        source=f"{KANDINSKY}k5_pro_t2v_5s_sft_sd.yaml; sampled with shift 5",
        scheduler=flow_euler(shift=5.0),
        index={"_class_name": "Kandinsky5T2VPipeline"},
        config={
            "in_visual_dim": 16,
            "out_visual_dim": 16,
            "time_dim": 1024,
            "model_dim": 4096,
            "ff_dim": 16384,
            "num_text_blocks": 4,
            "num_visual_blocks": 60,
            "axes_dims": (32, 48, 48),
            "visual_cond": True,
        },
        sites={"causal_attention": 60, "action": 1},
        tiny={"visual_cond": True},
        vae=VAE,
        rounds=ROTATED,
        stage="kandinsky",
    ),
)

MOCHI_RELEASES = (
    Release(
        name="Mochi 1 preview",
        plan="mochi",
        source=SCRIPTS + "convert_mochi_to_diffusers.py",
        scheduler=flow_euler(invert_sigmas=True),
        index={"_class_name": "MochiPipeline"},
        sites={"causal_attention": 48, "action": 1},
        vae={"_class_name": "AutoencoderKLMochi", "latent_channels": 12},
        stage="mochi",
    ),
)
