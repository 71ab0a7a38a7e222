"""LTX-Video as github.com/Lightricks/LTX-Video publishes it: one file of denoiser and autoencoder, or ComfyUI's of one."""

from v2w_convert.checkpoint.layouts.layout import Config, Layout, Tensors, count, quotient, shape

HEADS = 32  # in every release, of 2 and of 13 billion parameters


def config(tensors: Tensors, own: Config) -> Config:
    """The config, by shapes."""
    inner, channels = shape(tensors, "patchify_proj.weight", 2)
    return {
        "in_channels": channels,
        "out_channels": shape(tensors, "proj_out.weight", 2)[0],
        "patch_size": 1,
        "patch_size_t": 1,
        "num_attention_heads": HEADS,
        "attention_head_dim": quotient(inner, HEADS, "patchify_proj.weight"),
        "cross_attention_dim": shape(tensors, "transformer_blocks.0.attn2.to_k.weight", 2)[1],
        "num_layers": count(tensors, r"transformer_blocks\.(\d+)\."),
        "caption_channels": shape(tensors, "caption_projection.linear_1.weight", 2)[1],
    }


def scheduler(config: Config) -> Config:
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "use_dynamic_shifting": True,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "base_image_seq_len": 1024,
        "max_image_seq_len": 4096,
        "shift_terminal": 0.1,
    }


LTX_VIDEO = Layout(
    name="LTX-Video's own layout",
    model="LTXVideoTransformer3DModel",
    pipeline="LTXPipeline",
    repository="Lightricks/LTX-Video",
    marks=("patchify_proj.weight", "adaln_single.linear.weight", "transformer_blocks.0.attn1.q_norm.weight"),
    absent=("audio_patchify_proj.",),
    mapping="convert_ltx_transformer_checkpoint_to_diffusers",
    config=config,
    scheduler=scheduler,
    assumed="noise as diffusers' conversion of LTX-Video sets it: shifted by the number of tokens, ending at 0.1",
)
