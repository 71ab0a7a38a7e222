"""Wan 2.1 and 2.2 as github.com/Wan-Video publishes them: the denoiser, and the autoencoder of Wan 2.1."""

from typing import Any

from v2w_convert.checkpoint.layouts.layout import Config, Layout, Tensors, count, quotient, shape

HEAD = 128  # numbers in a head, in every release
CLASSES = ("WanModel",)  # in the makers' config.json, which has keys of their own
AUTOENCODER_FILE = "Wan2.1_VAE.pth"
AUTOENCODER = {"_class_name": "AutoencoderKLWan"}  # sizes and statistics are its class's defaults
AUTOENCODER_MAPPING = "convert_wan_vae_to_diffusers"
EXPERTS = ("high_noise_model", "low_noise_model")  # folders of the releases with two


def config(tensors: Tensors, own: Config) -> Config:
    """The config, by shapes; the makers' own tells heads and epsilon."""
    inner, channels, *patch = shape(tensors, "patch_embedding.weight", 5)
    heads = own.get("num_heads", quotient(inner, HEAD, "patch_embedding.weight"))
    if type(heads) is not int:
        raise ValueError(f"config.json: num_heads is {heads!r:.80}")
    out = shape(tensors, "head.head.weight", 2)[0]
    found: dict[str, Any] = {
        "patch_size": patch,
        "num_attention_heads": heads,
        "attention_head_dim": quotient(inner, heads, "patch_embedding.weight"),
        "in_channels": channels,
        "out_channels": quotient(out, patch[0] * patch[1] * patch[2], "head.head.weight"),
        "text_dim": shape(tensors, "text_embedding.0.weight", 2)[1],
        "freq_dim": shape(tensors, "time_embedding.0.weight", 2)[1],
        "ffn_dim": shape(tensors, "blocks.0.ffn.0.weight", 2)[0],
        "num_layers": count(tensors, r"blocks\.(\d+)\."),
        "cross_attn_norm": "blocks.0.norm3.weight" in tensors,
        "qk_norm": "rms_norm_across_heads" if "blocks.0.self_attn.norm_q.weight" in tensors else None,
        "eps": own.get("eps", 1e-6),
        "image_dim": None,
        "added_kv_proj_dim": None,
    }
    if "blocks.0.cross_attn.k_img.weight" in tensors:
        found["added_kv_proj_dim"] = inner
        found["image_dim"] = shape(tensors, "img_emb.proj.0.weight", 1)[0]
    return found


def scheduler(config: Config) -> Config:
    return {
        "_class_name": "UniPCMultistepScheduler",
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": 5.0 if config["out_channels"] == 48 else 3.0,  # 48: Wan 2.2 5B, by its autoencoder
    }


WAN = Layout(
    name="Wan's own layout",
    model="WanTransformer3DModel",
    pipeline="WanPipeline",
    repository="Wan-AI/Wan2.1-T2V-14B-Diffusers",
    marks=("patch_embedding.weight", "head.modulation", "blocks.0.self_attn.q.weight"),
    absent=("vace_blocks.", "fps_embedding.", "face_adapter.", "motion_encoder."),
    mapping="convert_wan_transformer_to_diffusers",
    config=config,
    scheduler=scheduler,
    assumed="noise as diffusers' conversion of Wan sets it: UniPC, flow_shift 3 (5 for Wan 2.2 5B)",
)
