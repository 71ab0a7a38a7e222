"""SANA-Video, EasyAnimate, Latte, Allegro."""

from typing import Any

import diffusers
import numpy as np
import torch
from torch import nn

from tests.autoencoders import tiny_autoencoder
from tests.pipelines.release import Release
from tests.pipelines.stages.stage import SEED, STEPS, Stage, drawn, picture, words

SIDE = 8


def sana_inputs() -> dict[str, Any]:
    return {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": drawn(1, 300, 16, seed=5),
        "prompt_attention_mask": words(300, 40),
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "frames": 17,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "output_type": "latent",
        "use_resolution_binning": False,
    }


def sana_stage(pipeline: Any, arguments: dict[str, Any], **more: Any) -> Stage:
    conditions = {"text": arguments["prompt_embeds"], "text_mask": arguments["prompt_attention_mask"]}
    return Stage(pipeline, arguments, conditions, (5, SIDE, SIDE), **more)


def sana(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.SanaVideoPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, **denoisers
    )
    return sana_stage(pipeline, {**sana_inputs(), "latents": drawn(1, 4, 5, SIDE, SIDE, seed=7)})


def sana_first_frame(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLWan", temperal_downsample=[False, True, True])
    pipeline = diffusers.SanaImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler, **denoisers
    )
    image = picture(8 * SIDE, 8 * SIDE)
    arguments = {**sana_inputs(), "image": image, "generator": torch.Generator().manual_seed(7)}
    return sana_stage(
        pipeline, arguments, vae=vae, picture=image, clean_frames=1, clean_told=True, clean_left_out=True
    )


def easyanimate_inputs() -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 20, 16, seed=5),
        "prompt_attention_mask": torch.ones(1, 20),
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "num_frames": 17,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "latents": drawn(1, 4, 5, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }


def easyanimate(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLMagvit", spatial_group_norm=False)
    pipeline = diffusers.EasyAnimatePipeline(
        vae=vae, text_encoder=None, tokenizer=None, scheduler=scheduler, **denoisers
    )
    arguments = easyanimate_inputs()
    return Stage(pipeline, arguments, {"text": arguments["prompt_embeds"]}, (5, SIDE, SIDE))


def easyanimate_image(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLMagvit", spatial_group_norm=False)
    vae.register_to_config(
        cache_mag_vae=True
    )  # as the released config has it, without a meaning for diffusers' class
    pipeline = diffusers.EasyAnimateInpaintPipeline(
        vae=vae, text_encoder=None, tokenizer=None, scheduler=scheduler, **denoisers
    )
    image = picture(8 * SIDE, 8 * SIDE)
    arguments = {**easyanimate_inputs(), "latents": None, "generator": torch.Generator().manual_seed(SEED)}
    frames = arguments["num_frames"]
    shown = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    # As diffusers' own helper makes them of a picture: its frame is kept, all others are to be filled.
    video = torch.zeros(1, 3, frames, 8 * SIDE, 8 * SIDE)
    video[:, :, 0] = shown
    mask = torch.full((1, 1, frames, 8 * SIDE, 8 * SIDE), 255.0)
    mask[:, :, 0] = 0
    arguments |= {"video": video, "mask_video": mask}
    return Stage(
        pipeline,
        arguments,
        {"text": arguments["prompt_embeds"]},
        (5, SIDE, SIDE),
        vae=vae,
        picture=image,
    )


def plain_autoencoder() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=[8],
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D"],
    )


def latte(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.LattePipeline(
        tokenizer=None, text_encoder=None, vae=plain_autoencoder(), scheduler=scheduler, **denoisers
    )
    frames = denoisers["transformer"].config.video_length  # type: ignore[union-attr]
    arguments = {
        "prompt_embeds": drawn(1, 20, 8, seed=5),
        "negative_prompt": None,
        "mask_feature": False,
        "height": SIDE,
        "width": SIDE,
        "video_length": frames,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "latents": drawn(1, 4, frames, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }
    return Stage(pipeline, arguments, {"text": arguments["prompt_embeds"]}, (frames, SIDE, SIDE))


def allegro(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.AllegroPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, **denoisers
    )
    embeds, mask = drawn(1, 512, 8, seed=5), words(512, 60)
    arguments = {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": embeds,
        "prompt_attention_mask": mask,
        "negative_prompt_embeds": embeds,
        "negative_prompt_attention_mask": mask,
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "num_frames": 32,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "latents": drawn(1, 4, 8, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }
    return Stage(pipeline, arguments, {"text": embeds, "text_mask": mask}, (8, SIDE, SIDE))
