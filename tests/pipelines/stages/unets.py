"""Stable Video Diffusion, ModelScope, I2VGen-XL, AnimateDiff."""

from typing import Any

import diffusers
import torch
from torch import nn
from transformers import CLIPImageProcessor

from tests.autoencoders import tiny_autoencoder
from tests.pipelines.release import Release
from tests.pipelines.stages.stage import SEED, STEPS, Stage, drawn, picture, returned
from tests.pipelines.stages.transformers import plain_autoencoder

T, SIDE = 5, 8


def svd(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    frames = denoisers["unet"].config.num_frames  # type: ignore[union-attr]
    vae = tiny_autoencoder("AutoencoderKLTemporalDecoder", force_upcast=False)
    pipeline = diffusers.StableVideoDiffusionPipeline(
        vae=vae, image_encoder=None, feature_extractor=None, scheduler=scheduler, **denoisers
    )
    embeds = drawn(1, 1, 16, seed=5)
    pipeline._encode_image = returned(embeds)
    side = 16
    image = picture(2 * side, 2 * side)
    arguments = {
        "image": image,
        "height": 2 * side,
        "width": 2 * side,
        "num_frames": frames,
        "num_inference_steps": STEPS,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 1.0,
        "fps": 7,
        "latents": drawn(1, frames, 4, side, side, seed=7),
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(SEED),
    }
    conditions = {"text": embeds, "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]])}
    return Stage(
        pipeline, arguments, conditions, (frames, side, side), layout="b t c h w", vae=vae, picture=image
    )


def unet_inputs(text: int) -> dict[str, Any]:
    embeds = drawn(1, 77, text, seed=5)
    return {
        "prompt_embeds": embeds,
        "negative_prompt_embeds": embeds,
        "height": SIDE,
        "width": SIDE,
        "num_frames": T,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "latents": drawn(1, 4, T, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }


def modelscope(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.TextToVideoSDPipeline(
        vae=plain_autoencoder(), text_encoder=None, tokenizer=None, scheduler=scheduler, **denoisers
    )
    arguments = unet_inputs(8)
    return Stage(
        pipeline, arguments, {"text": arguments["prompt_embeds"]}, (T, SIDE, SIDE), layout="(b t) c h w"
    )


def i2vgen(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = plain_autoencoder()
    pipeline = diffusers.I2VGenXLPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        image_encoder=None,
        feature_extractor=CLIPImageProcessor(crop_size=SIDE, size=SIDE),
        scheduler=scheduler,
        **denoisers,
    )
    embeds = drawn(1, 1, 8, seed=6)
    pipeline._encode_image = returned(embeds)
    image = picture(SIDE, SIDE)
    arguments = {**unet_inputs(8), "image": image, "target_fps": 16}
    conditions = {"text": arguments["prompt_embeds"], "image_embeds": embeds[:, 0]}
    return Stage(
        pipeline, arguments, conditions, (T, SIDE, SIDE), layout="(b t) c h w", vae=vae, picture=image
    )


def animatediff(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.AnimateDiffPipeline(
        vae=plain_autoencoder(),
        text_encoder=None,
        tokenizer=None,
        motion_adapter=None,
        scheduler=scheduler,
        **denoisers,
    )
    arguments = unet_inputs(16)
    return Stage(pipeline, arguments, {"text": arguments["prompt_embeds"]}, (T, SIDE, SIDE))
