"""Tiny checkpoints of every family that has a pipeline in diffusers, with the autoencoders that these have."""

from typing import Any, NamedTuple

from tests.autoencoders import tiny_autoencoder
from tests.lvdm import tiny_autoencoder as tiny_picture_autoencoder
from v2w_convert.world.vae import VAE

WAN = {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}
FIVE_FRAMES = {"latents_mean": [0.1 * i for i in range(20)], "latents_std": [1 + 0.1 * i for i in range(20)]}


class Case(NamedTuple):
    """A checkpoint.

    plan    its name
    config  what differs from the plan's tiny configuration
    vae     the class of its autoencoder, "" for none
    extra   entries of the autoencoder's config
    """

    plan: str
    config: dict[str, Any] = {}
    vae: str = ""
    extra: dict[str, Any] = {}

    def autoencoder(self) -> VAE | None:
        if not self.vae:
            return None
        if self.vae == "AutoencoderKL":
            return VAE(tiny_picture_autoencoder(**self.extra), {})
        known = {k: v for k, v in self.extra.items() if k != "cache_mag_vae"}
        model = tiny_autoencoder(self.vae, **known)
        model.register_to_config(**self.extra)  # diffusers keeps entries that its class does not know
        return VAE(model, {})


TEXT = {
    "allegro": Case("allegro"),
    "animatediff": Case("animatediff", vae="AutoencoderKL"),
    "cogvideox": Case("cogvideox"),
    "cogvideox-15": Case("cogvideox-15"),
    "cogvideox-2b": Case("cogvideox-2b"),
    "cosmos": Case("cosmos"),
    "easyanimate": Case("easyanimate", vae="AutoencoderKLMagvit"),
    "hunyuan-video": Case("hunyuan-video"),
    "hunyuan-video without guidance": Case("hunyuan-video", {"guidance_embeds": False}),
    "kandinsky-5": Case("kandinsky-5"),
    "latte": Case("latte", vae="AutoencoderKL"),
    "ltx-video": Case("ltx-video"),
    "mochi": Case("mochi"),
    "sana-video": Case("sana-video"),
    "skyreels-v2": Case("skyreels-v2"),
    "unet-3d": Case("unet-3d", vae="AutoencoderKL"),
    "wan": Case("wan"),
}
PICTURE = {
    "cogvideox, image to video": Case("cogvideox", {"in_channels": 8}, "AutoencoderKLCogVideoX"),
    "cogvideox-15, image to video": Case(
        "cogvideox-15",
        {"in_channels": 8, "ofs_embed_dim": 4},
        "AutoencoderKLCogVideoX",
        {"invert_scale_latents": True},
    ),
    "cosmos, video to world": Case("cosmos", {"in_channels": 5}, "AutoencoderKLCosmos", FIVE_FRAMES),
    "easyanimate, inpainting": Case(
        "easyanimate",
        {"in_channels": 9, "add_noise_in_inpaint_model": True},
        "AutoencoderKLMagvit",
        {"cache_mag_vae": True},
    ),
    "easyanimate, inpainting, the mask resized over all frames": Case(
        "easyanimate", {"in_channels": 9}, "AutoencoderKLMagvit", {"cache_mag_vae": False}
    ),
    "easyanimate, inpainting, the mask encoded": Case(
        "easyanimate",
        {"in_channels": 12, "resize_inpaint_mask_directly": False},
        "AutoencoderKLMagvit",
    ),
    "hunyuan-video, image to video": Case(
        "hunyuan-video",
        {"in_channels": 9, "image_condition_type": "latent_concat", "guidance_embeds": False},
        "AutoencoderKLHunyuanVideo",
    ),
    "hunyuan-video-15, image to video": Case("hunyuan-video-15", {}, "AutoencoderKLHunyuanVideo15"),
    "i2vgen-xl": Case("i2vgen-xl", {}, "AutoencoderKL"),
    "kandinsky-5, image to video": Case("kandinsky-5", {"visual_cond": True}, "AutoencoderKLHunyuanVideo"),
    "skyreels-v2, image to video": Case("skyreels-v2", WAN, "AutoencoderKLWan"),
    "stable-video-diffusion": Case("stable-video-diffusion", {}, "AutoencoderKLTemporalDecoder"),
    "wan 2.1, image to video": Case("wan", WAN, "AutoencoderKLWan"),
    "wan 2.2, image to video": Case("wan", {"in_channels": 12}, "AutoencoderKLWan"),
}
