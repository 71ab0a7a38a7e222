"""What differs from its class's defaults in a published checkpoint of each family, and the sites that its plan finds."""

from typing import Any, NamedTuple

# Imported with the actions they were trained with, one of them leaking: tests/families/test_vid2world.py
TRAINED = {"vid2world", "vid2world-repaired"}

PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "allegro": ({}, {"causal_attention": 32, "action": 1}),
    "animatediff": (
        {"use_motion_mid_block": True},
        {"frame_norm": 21, "frame_position": 21, "causal_attention": 42, "action": 1},
    ),
    "cogvideox": (
        {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
        {"causal_attention": 42, "action": 1},
    ),
    "cogvideox-15": (
        {
            "num_attention_heads": 48,
            "num_layers": 42,
            "patch_size_t": 2,
            "patch_bias": False,
            "sample_height": 96,
            "sample_width": 170,
            "sample_frames": 81,
            "use_rotary_positional_embeddings": True,
        },
        {"causal_attention": 42, "action": 1},
    ),
    "cogvideox-2b": ({}, {"causal_attention": 30, "frame_position": 1, "action": 1}),
    "cosmos": ({}, {"causal_attention": 28, "frame_position": 1, "action": 1}),
    "dynamicrafter": ({}, {"causal_conv": 88, "frame_norm": 105, "causal_attention": 34, "action": 1}),
    "easyanimate": (
        {
            "num_attention_heads": 48,
            "attention_head_dim": 64,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "num_layers": 48,
            "mmdit_layers": 48,
            "text_embed_dim": 3584,
        },
        {"causal_attention": 48, "action": 1},
    ),
    "hunyuan-video": ({}, {"causal_attention": 60, "action": 1}),
    "hunyuan-video-15": ({}, {"causal_attention": 54, "action": 1}),
    "i2vgen-xl": (
        {},
        {"causal_conv": 88, "frame_norm": 105, "causal_attention": 35, "first_frame": 1, "action": 1},
    ),
    "kandinsky-5": ({}, {"causal_attention": 32, "action": 1}),
    "latte": (
        {
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 28,
            "cross_attention_dim": 1152,
            "attention_bias": True,
            "sample_size": 64,
            "patch_size": 2,
            "activation_fn": "gelu-approximate",
            "num_embeds_ada_norm": 1000,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "norm_eps": 1e-6,
            "caption_channels": 4096,
            "video_length": 16,
        },
        {"causal_attention": 28, "frame_position": 1, "action": 1},
    ),
    "ltx-video": ({}, {"causal_attention": 28, "action": 1}),
    "mochi": ({}, {"causal_attention": 48, "action": 1}),
    "sana-video": ({}, {"linear_attention": 20, "causal_conv": 20, "action": 1}),
    "skyreels-v2": ({}, {"causal_attention": 32, "action": 1}),
    "stable-video-diffusion": (
        {},
        {"causal_conv": 44, "frame_norm": 44, "causal_attention": 16, "frame_position": 16, "action": 1},
    ),
    "unet-3d": ({}, {"causal_conv": 88, "frame_norm": 105, "causal_attention": 34, "action": 1}),
    "wan": ({}, {"causal_attention": 40, "action": 1}),
}

# Other checkpoints of the same classes: the plan, what differs from the class's defaults, and the sites.
ALSO_PUBLISHED: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "Wan 2.1 1.3B": (
        "wan",
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        {"causal_attention": 30, "action": 1},
    ),
    "Wan 2.2 TI2V 5B": (
        "wan",
        {
            "num_attention_heads": 24,
            "in_channels": 48,
            "out_channels": 48,
            "ffn_dim": 14336,
            "num_layers": 30,
        },
        {"causal_attention": 30, "action": 1},
    ),
    "Wan 2.1 I2V 14B": (
        "wan",
        {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
        {"causal_attention": 40, "action": 1},
    ),
    "DynamiCrafter 256": (
        "dynamicrafter",
        {"image_scale_learnable": True, "default_fs": 3},
        {"causal_conv": 88, "frame_norm": 105, "causal_attention": 34, "action": 1},
    ),
    "CogVideoX 5B I2V": (
        "cogvideox",
        {
            "num_attention_heads": 48,
            "num_layers": 42,
            "in_channels": 32,
            "use_rotary_positional_embeddings": True,
        },
        {"causal_attention": 42, "action": 1},
    ),
    "CogVideoX 1.5 5B I2V": (
        "cogvideox-15",
        {
            "num_attention_heads": 48,
            "num_layers": 42,
            "in_channels": 32,
            "patch_size_t": 2,
            "patch_bias": False,
            "ofs_embed_dim": 512,
            "use_rotary_positional_embeddings": True,
        },
        {"causal_attention": 42, "action": 1},
    ),
    "Cosmos 1.0 Video2World 7B": (
        "cosmos",
        {"in_channels": 17},
        {"causal_attention": 28, "frame_position": 1, "action": 1},
    ),
    "HunyuanVideo I2V": (
        "hunyuan-video",
        {"in_channels": 33, "image_condition_type": "latent_concat", "guidance_embeds": False},
        {"causal_attention": 60, "action": 1},
    ),
}


class Case(NamedTuple):
    """A tiny model: its plan, what differs from the plan's tiny configuration, and the view that the plan is adjusted to."""

    plan: str
    overrides: dict[str, Any] = {}
    view: dict[str, Any] = {}


# Checkpoints with more conditions than a prompt.
IMAGE_TO_VIDEO = {
    "wan, image to video": Case("wan", {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}),
    "cogvideox, image to video": Case("cogvideox", {"in_channels": 8, "ofs_embed_dim": 4}),
    "hunyuan-video, image to video": Case(
        "hunyuan-video", {"in_channels": 9, "image_condition_type": "latent_concat"}
    ),
    "kandinsky-5, image to video": Case("kandinsky-5", {"visual_cond": True}),
    "easyanimate, inpainting": Case("easyanimate", {"in_channels": 9}),
    "cosmos, video to world": Case("cosmos", {"in_channels": 5}),
}
# Blocks of several frames, and sinks: every kind of site, and every kind of positions.
VIEWS = {
    "wan, blocks of 3": Case("wan", {}, {"frames_per_block": 3, "window": 6, "sinks": 3}),
    "cogvideox, sinks": Case("cogvideox", {}, {"window": 4, "sinks": 2}),
    "cogvideox-15, blocks of 4": Case("cogvideox-15", {}, {"frames_per_block": 4, "window": 8}),
    "cogvideox-2b, blocks of 2": Case("cogvideox-2b", {}, {"frames_per_block": 2, "window": 4}),
    "stable-video-diffusion, blocks of 2": Case(
        "stable-video-diffusion", {}, {"frames_per_block": 2, "window": 4}
    ),
    "animatediff, blocks of 3": Case("animatediff", {}, {"frames_per_block": 3, "window": 6}),
    "cosmos, blocks of 2": Case("cosmos", {}, {"frames_per_block": 2, "window": 6}),
    "mochi, blocks of 2": Case("mochi", {}, {"frames_per_block": 2, "window": 6, "sinks": 2}),
    "sana-video, blocks of 2": Case("sana-video", {}, {"frames_per_block": 2}),
    "unet-3d, sinks": Case("unet-3d", {}, {"window": 3, "sinks": 1}),
}
