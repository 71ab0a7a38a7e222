"""Mochi 1 as github.com/genmoai/mochi publishes it: `dit.safetensors`."""

from v2w_convert.checkpoint.layouts.layout import Config, Layout, Tensors, count, quotient, shape

LAYERS = 48  # of the one release; diffusers' mapping counts on them


def config(tensors: Tensors, own: Config) -> Config:
    """The config, by shapes."""
    inner, channels, patch, _ = shape(tensors, "x_embedder.proj.weight", 4)
    layers = count(tensors, r"blocks\.(\d+)\.")
    if layers != LAYERS:
        raise ValueError(f"it has {layers} blocks; diffusers' mapping knows {LAYERS}")
    head = shape(tensors, "blocks.0.attn.q_norm_x.weight", 1)[0]
    pooled, text = shape(tensors, "t5_yproj.weight", 2)
    out = quotient(
        shape(tensors, "final_layer.linear.weight", 2)[0], patch * patch, "final_layer.linear.weight"
    )
    return {
        "patch_size": patch,
        "num_attention_heads": quotient(inner, head, "x_embedder.proj.weight"),
        "attention_head_dim": head,
        "num_layers": layers,
        "pooled_projection_dim": pooled,
        "in_channels": channels,
        "out_channels": None if out == channels else out,  # None: as many, in the released config
        "text_embed_dim": text,
        "time_embed_dim": shape(tensors, "t_embedder.mlp.0.weight", 2)[1],
    }


def scheduler(config: Config) -> Config:
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "invert_sigmas": True,
    }


MOCHI = Layout(
    name="Mochi's own layout",
    model="MochiTransformer3DModel",
    pipeline="MochiPipeline",
    repository="genmo/mochi-1-preview",
    marks=("x_embedder.proj.weight", "blocks.0.attn.qkv_x.weight", "t5_y_embedder.to_kv.weight"),
    absent=(),
    mapping="convert_mochi_transformer_checkpoint_to_diffusers",
    config=config,
    scheduler=scheduler,
    assumed="noise as diffusers' conversion of Mochi sets it: inverted sigmas",
)
