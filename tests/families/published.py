"""What differs from its class's defaults in a published checkpoint of each family, and the sites that its plan finds."""

from typing import Any

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
    "i2vgen-xl": ({}, {"causal_conv": 88, "frame_norm": 105, "causal_attention": 35, "action": 1}),
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

# Checkpoints that are told more than a prompt: the plan, and what differs from its tiny configuration.
IMAGE_TO_VIDEO: dict[str, tuple[str, dict[str, Any]]] = {
    "wan, image to video": ("wan", {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}),
    "cogvideox, image to video": ("cogvideox", {"in_channels": 8, "ofs_embed_dim": 4}),
    "hunyuan-video, image to video": (
        "hunyuan-video",
        {"in_channels": 9, "image_condition_type": "latent_concat"},
    ),
    "kandinsky-5, image to video": ("kandinsky-5", {"visual_cond": True}),
    "easyanimate, inpainting": ("easyanimate", {"in_channels": 9}),
}
