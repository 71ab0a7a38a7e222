"""HunyuanVideo as github.com/Tencent-Hunyuan/HunyuanVideo publishes it."""

from v2w_convert.checkpoint.layouts.layout import Config, Layout, Tensors, count, quotient, shape

WIDTH = 3072  # of every release; diffusers' mapping splits single blocks at it
HEAD = 128


def config(tensors: Tensors, own: Config) -> Config:
    """The config, by shapes."""
    inner, channels, patch_t, patch, _ = shape(tensors, "img_in.proj.weight", 5)
    if inner != WIDTH:
        raise ValueError(f"img_in.proj.weight is of width {inner}; diffusers' mapping knows {WIDTH}")
    out = shape(tensors, "final_layer.linear.weight", 2)[0]
    out_channels = quotient(out, patch_t * patch * patch, "final_layer.linear.weight")
    return {
        "in_channels": channels,
        "out_channels": out_channels,
        "num_attention_heads": quotient(inner, HEAD, "img_in.proj.weight"),
        "attention_head_dim": HEAD,
        "num_layers": count(tensors, r"double_blocks\.(\d+)\."),
        "num_single_layers": count(tensors, r"single_blocks\.(\d+)\."),
        "num_refiner_layers": count(tensors, r"txt_in\.individual_token_refiner\.blocks\.(\d+)\."),
        "mlp_ratio": shape(tensors, "double_blocks.0.img_mlp.fc1.weight", 2)[0] / inner,
        "patch_size": patch,
        "patch_size_t": patch_t,
        "guidance_embeds": "guidance_in.mlp.0.weight" in tensors,
        "text_embed_dim": shape(tensors, "txt_in.input_embedder.weight", 2)[1],
        "pooled_projection_dim": shape(tensors, "vector_in.in_layer.weight", 2)[1],
        # The frame beside the latents, and a mask: HunyuanVideo-I2V's first release.
        "image_condition_type": "latent_concat" if channels == 2 * out_channels + 1 else None,
    }


def scheduler(config: Config) -> Config:
    return {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 7.0}


HUNYUAN_VIDEO = Layout(
    name="HunyuanVideo's own layout",
    model="HunyuanVideoTransformer3DModel",
    pipeline="HunyuanVideoPipeline",
    repository="hunyuanvideo-community/HunyuanVideo",
    marks=(
        "img_in.proj.weight",
        "double_blocks.0.img_attn_qkv.weight",
        "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",
    ),
    absent=(),
    mapping="convert_hunyuan_video_transformer_to_diffusers",
    config=config,
    scheduler=scheduler,
    assumed="noise as diffusers' conversion of HunyuanVideo sets it: shift 7; no frame is given in place of a token "
    "(image_condition_type token_replace)",
)
