"""Wan and SkyReels V2."""

from typing import Any

import diffusers
import torch
from torch import nn

from tests.autoencoders import tiny_autoencoder
from tests.pipelines.release import Release
from tests.pipelines.stages.stage import STEPS, Stage, drawn, picture

FRAMES, SIDE = 5, 8


def common(guidance: float = 1.0) -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 512, 16, seed=5),
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "num_frames": 4 * (FRAMES - 1) + 1,
        "num_inference_steps": STEPS,
        "guidance_scale": guidance,
        "latents": drawn(1, 4, FRAMES, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }


def settings(release: Release) -> dict[str, Any]:
    return {key: release.index[key] for key in ("boundary_ratio", "expand_timesteps") if key in release.index}


def wan(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, **denoisers, **settings(release)
    )
    arguments = common()
    return Stage(pipeline, arguments, {"text": arguments["prompt_embeds"]}, (FRAMES, SIDE, SIDE))


def wan_image(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLWan", temperal_downsample=[False, True, True])
    pipeline = diffusers.WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=scheduler,
        image_encoder=None,
        image_processor=None,
        **denoisers,
        **settings(release),
    )
    image = picture(8 * SIDE, 8 * SIDE)
    arguments = {**common(), "image": image}
    conditions = {"text": arguments["prompt_embeds"]}
    if "image_dim" in release.tiny:
        conditions["image_embeds"] = drawn(1, 257, 16, seed=6)
        pipeline.encode_image = lambda *args, **kwargs: conditions["image_embeds"]
    return Stage(pipeline, arguments, conditions, (FRAMES, SIDE, SIDE), vae=vae, picture=image)


def wan_first_frame(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    stage = wan_image(release, denoisers, scheduler)
    stage.clean_frames, stage.clean_told = 1, True
    return stage


def skyreels(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.SkyReelsV2Pipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, **denoisers
    )
    arguments = common()
    return Stage(pipeline, arguments, {"text": arguments["prompt_embeds"]}, (FRAMES, SIDE, SIDE))


def skyreels_image(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLWan", temperal_downsample=[False, True, True])
    pipeline = diffusers.SkyReelsV2ImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=scheduler,
        image_encoder=None,
        image_processor=None,
        **denoisers,
    )
    image = picture(8 * SIDE, 8 * SIDE)
    arguments = {**common(), "image": image}
    conditions = {"text": arguments["prompt_embeds"], "image_embeds": drawn(1, 257, 16, seed=6)}
    pipeline.encode_image = lambda *args, **kwargs: conditions["image_embeds"]
    return Stage(pipeline, arguments, conditions, (FRAMES, SIDE, SIDE), vae=vae, picture=image)


def skyreels_forcing(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.SkyReelsV2DiffusionForcingPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, **denoisers
    )
    arguments = {**common(), "prompt": None, "fps": 24}
    arguments |= {"latents": None, "generator": torch.Generator().manual_seed(7)}
    forcing = {
        "enable_diffusion_forcing": "it lets the timestep be given per frame; the folded model always does"
    }
    return Stage(
        pipeline,
        arguments,
        {"text": arguments["prompt_embeds"]},
        (FRAMES, SIDE, SIDE),
        copies_scheduler=True,
        unread=forcing,
    )
