"""Cosmos 1.0, from a prompt and from a picture."""

from typing import Any

import diffusers
from torch import nn

from tests.autoencoders import tiny_autoencoder
from tests.pipelines.release import Release
from tests.pipelines.stages.stage import STEPS, Stage, drawn, picture

T, SIDE = 3, 8


class NoChecker:
    """In place of the safety checker, a package of its own."""

    def to(self, device: Any) -> "NoChecker":
        return self

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


def common() -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 512, 16, seed=5),
        "height": 8 * SIDE,
        "width": 8 * SIDE,
        "num_frames": 8 * (T - 1) + 1,
        "fps": 30,
        "num_inference_steps": STEPS,
        "guidance_scale": 0.0,
        "latents": drawn(1, 4, T, SIDE, SIDE, seed=7),
        "output_type": "latent",
    }


def cosmos(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    pipeline = diffusers.CosmosTextToWorldPipeline(
        text_encoder=None,
        tokenizer=None,
        vae=None,
        scheduler=scheduler,
        safety_checker=NoChecker(),
        **denoisers,
    )
    arguments = common()
    return Stage(pipeline, arguments, {"text": arguments["prompt_embeds"]}, (T, SIDE, SIDE))


def cosmos_video(release: Release, denoisers: dict[str, nn.Module], scheduler: Any) -> Stage:
    vae = tiny_autoencoder("AutoencoderKLCosmos")
    pipeline = diffusers.CosmosVideoToWorldPipeline(
        text_encoder=None,
        tokenizer=None,
        vae=vae,
        scheduler=scheduler,
        safety_checker=NoChecker(),
        **denoisers,
    )
    image = picture(8 * SIDE, 8 * SIDE)
    # The noise on the picture is drawn anew at every step; here there is none.
    arguments = {**common(), "image": image, "augment_sigma": 0.0}
    return Stage(
        pipeline,
        arguments,
        {"text": arguments["prompt_embeds"]},
        (T, SIDE, SIDE),
        vae=vae,
        picture=image,
        clean_frames=1,
    )
