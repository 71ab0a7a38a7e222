"""CogVideoX, from a prompt and from a picture."""

from typing import Any

import diffusers
from torch import nn

from tests.autoencoders import tiny_autoencoder
from tests.pipelines.release import Release
from tests.pipelines.stages.stage import STEPS, Stage, drawn, picture


def sizes_of(denoisers: dict[str, Any]) -> tuple[int, int, int]:
    config = denoisers["transformer"].config
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    return frames, config.sample_height, config.sample_width


def common(sizes: tuple[int, int, int]) -> dict[str, Any]:
    t, h, w = sizes
    return {
        "prompt_embeds": drawn(1, 3, 8, seed=5),
        "height": 8 * h,
        "width": 8 * w,
        "num_frames": 4 * (t - 1) + 1,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "latents": drawn(1, t, 4, h, w, seed=7),
        "output_type": "latent",
    }


def cogvideox(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.CogVideoXPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, **denoisers
    )
    sizes = sizes_of(denoisers)
    arguments = common(sizes)
    return Stage(pipeline, arguments, {"text": arguments["prompt_embeds"]}, sizes, layout="b t c h w")


def cogvideox_image(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder(
        "AutoencoderKLCogVideoX", invert_scale_latents=release.vae.get("invert_scale_latents", False)
    )
    pipeline = diffusers.CogVideoXImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler, **denoisers
    )
    sizes = sizes_of(denoisers)
    image = picture(8 * sizes[1], 8 * sizes[2])
    arguments = {**common(sizes), "image": image}
    return Stage(
        pipeline,
        arguments,
        {"text": arguments["prompt_embeds"]},
        sizes,
        layout="b t c h w",
        vae=vae,
        picture=image,
    )
