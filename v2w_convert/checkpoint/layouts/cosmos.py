"""Cosmos 1.0 Diffusion as github.com/NVIDIA/Cosmos publishes it: `model.pt`."""

from v2w_convert.checkpoint.layouts.layout import Config, Layout, Tensors, count, quotient, shape

PATCH = (1, 2, 2)  # of every release
LARGE = 5120  # width of the 14B models, whose positions are scaled in all three directions


def config(tensors: Tensors, own: Config) -> Config:
    """The config, by shapes."""
    block = "net.blocks.block0.blocks."
    inner, patched = shape(tensors, "net.x_embedder.proj.1.weight", 2)
    area = PATCH[0] * PATCH[1] * PATCH[2]
    head = shape(tensors, f"{block}0.block.attn.to_q.1.weight", 1)[0]
    learned = [shape(tensors, f"net.extra_pos_embedder.pos_emb_{axis}", 2)[0] for axis in "thw"]
    hidden = shape(tensors, f"{block}2.block.layer1.weight", 2)[0]
    out = shape(tensors, "net.final_layer.linear.weight", 2)[0]
    return {
        "in_channels": quotient(patched, area, "net.x_embedder.proj.1.weight")
        - 1,  # without the padding's mask
        "out_channels": quotient(out, area, "net.final_layer.linear.weight"),
        "num_attention_heads": quotient(inner, head, "net.x_embedder.proj.1.weight"),
        "attention_head_dim": head,
        "num_layers": count(tensors, r"net\.blocks\.block(\d+)\."),
        "mlp_ratio": hidden / inner,
        "text_embed_dim": shape(tensors, f"{block}1.block.attn.to_k.0.weight", 2)[1],
        "adaln_lora_dim": shape(tensors, f"{block}0.adaLN_modulation.1.weight", 2)[0],
        "max_size": [size * patch for size, patch in zip(learned, PATCH, strict=True)],
        "patch_size": list(PATCH),
        "rope_scale": [2.0, 2.0, 2.0] if inner == LARGE else [2.0, 1.0, 1.0],
        "concat_padding_mask": True,
        "extra_pos_embed_type": "learnable",
    }


def scheduler(config: Config) -> Config:
    return {
        "_class_name": "EDMEulerScheduler",
        "num_train_timesteps": 1000,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "sigma_data": 0.5,
        "sigma_schedule": "karras",
        "prediction_type": "epsilon",
        "rho": 7.0,
        "final_sigmas_type": "sigma_min",
    }


COSMOS = Layout(
    name="the own layout of Cosmos 1.0",
    model="CosmosTransformer3DModel",
    pipeline="CosmosTextToWorldPipeline",
    repository="nvidia/Cosmos-1.0-Diffusion-7B-Text2World",
    marks=(
        "net.x_embedder.proj.1.weight",
        "net.blocks.block1.blocks.0.block.attn.to_q.0.weight",
        "net.extra_pos_embedder.pos_emb_h",
    ),
    absent=(),
    mapping="convert_cosmos_transformer_checkpoint_to_diffusers",
    config=config,
    scheduler=scheduler,
    assumed="noise as diffusers' conversion of Cosmos sets it; positions scaled by 2, 1, 1 (2, 2, 2 for 14B)",
)
