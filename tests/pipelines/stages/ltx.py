"""LTX-Video in its three pipelines."""

from typing import Any

import diffusers
from torch import nn

from tests.autoencoders import tiny_autoencoder
from tests.pipelines.release import Release
from tests.pipelines.stages.stage import STEPS, Stage, drawn, picture, words

T, H, W = 3, 3, 2


def common() -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 128, 16, seed=5),
        "prompt_attention_mask": words(128, 90),
        "height": 32 * H,
        "width": 32 * W,
        "num_frames": 8 * (T - 1) + 1,
        "frame_rate": 25,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "output_type": "latent",
    }


def stage_of(pipeline: Any, arguments: dict[str, Any]) -> Stage:
    conditions = {"text": arguments["prompt_embeds"], "text_mask": arguments["prompt_attention_mask"]}
    return Stage(pipeline, arguments, conditions, (T, H, W), layout="b (t h w) c")


def autoencoder() -> Any:
    """As small as it can be with the released compression, 32 × 32 pixels and 8 frames."""
    deep = [True, True, True, False]
    return tiny_autoencoder(
        "AutoencoderKLLTXVideo",
        patch_size=4,
        spatio_temporal_scaling=deep,
        decoder_spatio_temporal_scaling=deep,
    )


def parts(denoisers: dict[str, nn.Module], scheduler: Any, vae: Any = None) -> dict[str, Any]:
    return {"scheduler": scheduler, "vae": vae, "text_encoder": None, "tokenizer": None, **denoisers}


def ltx(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.LTXPipeline(**parts(denoisers, scheduler))
    latents = drawn(1, T * H * W, 4, seed=7)
    return stage_of(pipeline, {**common(), "latents": latents})


def ltx_first_frame(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = autoencoder()
    pipeline = diffusers.LTXImageToVideoPipeline(**parts(denoisers, scheduler, vae))
    image = picture(32 * H, 32 * W)
    stage = stage_of(pipeline, {**common(), "image": image})
    stage.layout, stage.vae, stage.picture = "b c t h w", vae, image
    stage.clean_frames, stage.clean_told, stage.clean_left_out = 1, True, True
    return stage


def ltx_condition(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.LTXConditionPipeline(**parts(denoisers, scheduler, autoencoder()))
    return stage_of(pipeline, {**common(), "latents": drawn(1, 4, T, H, W, seed=7)})
