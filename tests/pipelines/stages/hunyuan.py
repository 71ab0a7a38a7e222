"""HunyuanVideo and 1.5, Kandinsky 5, Mochi."""

from typing import Any

import diffusers
import torch
from diffusers.guiders import ClassifierFreeGuidance
from torch import nn

from tests.autoencoders import tiny_autoencoder
from tests.pipelines.release import Release
from tests.pipelines.stages.stage import STEPS, Stage, drawn, picture, returned, words

T, SIDE = 5, 8


def hunyuan_inputs() -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 16, 16, seed=5),
        "prompt_attention_mask": words(16, 9),
        "pooled_prompt_embeds": drawn(1, 8, seed=6),
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "num_frames": 4 * (T - 1) + 1,
        "num_inference_steps": STEPS,
        "latents": drawn(1, 4, T, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }


def hunyuan_conditions(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": arguments["prompt_embeds"],
        "text_mask": arguments["prompt_attention_mask"],
        "pooled_text": arguments["pooled_prompt_embeds"],
    }


def hunyuan(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.HunyuanVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        vae=None,
        scheduler=scheduler,
        **denoisers,
    )
    arguments = {**hunyuan_inputs(), "guidance_scale": 6.0}
    return Stage(pipeline, arguments, hunyuan_conditions(arguments), (T, SIDE, SIDE))


def hunyuan_image(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLHunyuanVideo")
    pipeline = diffusers.HunyuanVideoImageToVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        vae=vae,
        scheduler=scheduler,
        image_processor=None,
        **denoisers,
    )
    image = picture(8 * SIDE, 8 * SIDE)
    arguments = {**hunyuan_inputs(), "image": image}
    return Stage(pipeline, arguments, hunyuan_conditions(arguments), (T, SIDE, SIDE), vae=vae, picture=image)


def hunyuan15_parts(denoisers: dict[str, nn.Module], scheduler: Any, vae: Any) -> dict[str, Any]:
    return {
        "text_encoder": None,
        "tokenizer": None,
        "text_encoder_2": None,
        "tokenizer_2": None,
        "vae": vae,
        "scheduler": scheduler,
        "guider": ClassifierFreeGuidance(guidance_scale=1.0, enabled=False),
        **denoisers,
    }


def hunyuan15_inputs(side: int) -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 1000, 16, seed=5),
        "prompt_embeds_mask": words(1000, 70),
        "prompt_embeds_2": torch.zeros(1, 256, 8),
        "prompt_embeds_mask_2": torch.zeros(
            1, 256, dtype=torch.int64
        ),  # no text in quotes, which alone is its
        "num_frames": 9,
        "num_inference_steps": STEPS,
        "latents": drawn(1, 4, 3, side, side, seed=7),
        "output_type": "latent",
    }


def hunyuan15_conditions(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"text": arguments["prompt_embeds"], "text_mask": arguments["prompt_embeds_mask"]}


def hunyuan15(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLHunyuanVideo15")
    pipeline = diffusers.HunyuanVideo15Pipeline(**hunyuan15_parts(denoisers, scheduler, vae))
    side = 4
    arguments = {
        **hunyuan15_inputs(side),
        "height": side * pipeline.vae_scale_factor_spatial,
        "width": side * pipeline.vae_scale_factor_spatial,
    }
    return Stage(pipeline, arguments, hunyuan15_conditions(arguments), (3, side, side))


def hunyuan15_image(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLHunyuanVideo15")
    pipeline = diffusers.HunyuanVideo15ImageToVideoPipeline(
        **hunyuan15_parts(denoisers, scheduler, vae), image_encoder=None, feature_extractor=None
    )
    image = picture(64, 64)
    side = 64 // pipeline.vae_scale_factor_spatial
    pipeline.target_size = 64
    embeds = drawn(1, 729, 12, seed=8)
    pipeline.encode_image = returned(embeds)
    arguments = {**hunyuan15_inputs(side), "image": image}
    conditions = {**hunyuan15_conditions(arguments), "image_embeds": embeds}
    return Stage(pipeline, arguments, conditions, (3, side, side), vae=vae, picture=image)


def kandinsky_parts(denoisers: dict[str, nn.Module], scheduler: Any, vae: Any = None) -> dict[str, Any]:
    return {
        "vae": vae,
        "text_encoder": None,
        "tokenizer": None,
        "text_encoder_2": None,
        "tokenizer_2": None,
        "scheduler": scheduler,
        **denoisers,
    }


def kandinsky_inputs() -> dict[str, Any]:
    return {
        "prompt_embeds_qwen": drawn(1, 20, 16, seed=5),
        "prompt_embeds_clip": drawn(1, 8, seed=6),
        "prompt_cu_seqlens": torch.tensor([0, 20], dtype=torch.int32),
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "num_frames": 4 * (T - 1) + 1,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "generator": torch.Generator().manual_seed(7),
        "output_type": "latent",
    }


def kandinsky_conditions(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"text": arguments["prompt_embeds_qwen"], "pooled_text": arguments["prompt_embeds_clip"]}


def kandinsky(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.Kandinsky5T2VPipeline(**kandinsky_parts(denoisers, scheduler))
    arguments = kandinsky_inputs()
    return Stage(pipeline, arguments, kandinsky_conditions(arguments), (T, SIDE, SIDE), layout="b t h w c")


def kandinsky_image(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLHunyuanVideo")
    pipeline = diffusers.Kandinsky5I2VPipeline(**kandinsky_parts(denoisers, scheduler, vae))
    image = picture(8 * SIDE, 8 * SIDE)
    arguments = {**kandinsky_inputs(), "image": image}
    return Stage(
        pipeline,
        arguments,
        kandinsky_conditions(arguments),
        (T, SIDE, SIDE),
        layout="b t h w c",
        vae=vae,
        picture=image,
        clean_frames=1,
        clean_left_out=True,
    )


def mochi(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.MochiPipeline(
        scheduler=scheduler, vae=None, text_encoder=None, tokenizer=None, **denoisers
    )
    mask = words(256, 90).bool()
    arguments = {
        "prompt_embeds": drawn(1, 256, 16, seed=5),
        "prompt_attention_mask": mask,
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "num_frames": 19,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "latents": drawn(1, 4, 4, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }
    conditions = {"text": arguments["prompt_embeds"], "text_mask": mask}
    return Stage(pipeline, arguments, conditions, (4, SIDE, SIDE))
