"""How each family's own pipeline of diffusers is called, with a recorder in place of the denoiser.

Prompt and image embeddings are given, so that no text or image encoder is run. Where a pipeline has no autoencoder of
its folder, its temporal compression is the released one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from torch import Tensor

STEPS = 2


@dataclass(frozen=True)
class Asked:
    """What a pipeline is asked for.

    Attributes:
        denoiser: The recorder.
        config: The base's.
        vae: The autoencoder of diffusers, or None.
        picture: A PIL image, the clip's first frame; None: the base takes none.
        height: Of pictures.
        width: Of pictures.
        latent_frames: Of the clip.
        channels: Of a frame's latent.
        given: Embeddings and masks by the plan's names, (1 …).
        generator: Of all random numbers.
    """

    denoiser: Any
    config: Mapping[str, Any]
    vae: Any
    picture: Any
    height: int
    width: int
    latent_frames: int
    channels: int
    given: Mapping[str, Tensor]
    generator: torch.Generator

    def frames(self, k: int, alone: bool = True) -> int:
        """Video frames of the clip where k make a latent frame, the first alone or not."""
        return (self.latent_frames - 1) * k + 1 if alone else self.latent_frames * k

    @property
    def common(self) -> dict[str, Any]:
        """What most pipelines take by the same names."""
        return {
            "prompt_embeds": self.given["text"],
            "height": self.height,
            "width": self.width,
            "num_inference_steps": STEPS,
            "guidance_scale": 1.0,
            "generator": self.generator,
            "output_type": "latent",
        }

    @property
    def masked(self) -> dict[str, Any]:
        """The same with the prompt's mask, and both again as the negative prompt's, which is not used."""
        text = self.given["text"]
        mask = self.given.get("text_mask", torch.ones(text.shape[:2]))
        negative = {"negative_prompt_embeds": text, "negative_prompt_attention_mask": mask}
        return self.common | negative | {"prompt_attention_mask": mask}


Call = tuple[Any, dict[str, Any]]


def pipeline(name: str, **components: Any) -> Any:
    """A pipeline of diffusers; what is not given is None."""
    made = getattr(diffusers, name)(**components)
    made.set_progress_bar_config(disable=True)
    return made


class Stub(SimpleNamespace):
    """Stands for a part of a pipeline that only few attributes are asked of."""


NO_TEXT = {"tokenizer": None, "text_encoder": None}
NO_TEXTS = NO_TEXT | {"tokenizer_2": None, "text_encoder_2": None}


def flow() -> Any:
    """A scheduler for flow models."""
    return diffusers.FlowMatchEulerDiscreteScheduler()


def stable_video_diffusion(asked: Asked) -> Call:
    made = pipeline(
        "StableVideoDiffusionPipeline",
        vae=asked.vae, image_encoder=None, unet=asked.denoiser, scheduler=diffusers.EulerDiscreteScheduler(),
        feature_extractor=None,
    )  # fmt: skip
    made._encode_image = lambda *_: asked.given["text"]
    call = asked.common | {"image": asked.picture, "num_frames": asked.latent_frames}
    del call["prompt_embeds"], call["guidance_scale"]
    return made, call | {"min_guidance_scale": 1.0, "max_guidance_scale": 1.0}


def i2vgen_xl(asked: Asked) -> Call:
    made = pipeline(
        "I2VGenXLPipeline", **NO_TEXT,
        vae=asked.vae, image_encoder=None, unet=asked.denoiser, scheduler=diffusers.DDIMScheduler(),
        feature_extractor=Stub(crop_size={"width": asked.width, "height": asked.height}),
    )  # fmt: skip
    made._encode_image = lambda *_: asked.given["image_embeds"][:, None]
    return made, asked.common | {"image": asked.picture, "num_frames": asked.latent_frames}


def cogvideox(asked: Asked) -> Call:
    name = "CogVideoXPipeline" if asked.picture is None else "CogVideoXImageToVideoPipeline"
    scheduler = diffusers.CogVideoXDDIMScheduler()
    made = pipeline(name, **NO_TEXT, vae=asked.vae, transformer=asked.denoiser, scheduler=scheduler)
    call = asked.common | {"num_frames": asked.frames(4)}
    return made, call if asked.picture is None else call | {"image": asked.picture}


def wan(asked: Asked) -> Call:
    parts = NO_TEXT | {"vae": asked.vae, "transformer": asked.denoiser, "scheduler": flow()}
    call = asked.common | {"num_frames": asked.frames(4)}
    if asked.picture is None:
        return pipeline("WanPipeline", **parts), call
    made = pipeline("WanImageToVideoPipeline", **parts, image_encoder=None, image_processor=None)
    made.encode_image = lambda *_: asked.given["image_embeds"]
    return made, call | {"image": asked.picture}


def skyreels_v2(asked: Asked) -> Call:
    parts = NO_TEXT | {"vae": asked.vae, "transformer": asked.denoiser, "scheduler": unipc()}
    call = asked.common | {"num_frames": asked.frames(4)}
    if asked.config["inject_sample_info"]:  # the frame rate: 24 is the pipeline's own
        return pipeline("SkyReelsV2DiffusionForcingPipeline", **parts), call | {"prompt": None, "fps": 24}
    if asked.picture is None:
        return pipeline("SkyReelsV2Pipeline", **parts), call
    made = pipeline("SkyReelsV2ImageToVideoPipeline", **parts, image_encoder=None, image_processor=None)
    made.encode_image = lambda *_: asked.given["image_embeds"]
    return made, call | {"image": asked.picture}


def unipc() -> Any:
    """The scheduler that SkyReels V2 ships."""
    return diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)


def hunyuan_video(asked: Asked) -> Call:
    parts = NO_TEXTS | {"vae": asked.vae, "transformer": asked.denoiser, "scheduler": flow()}
    call = asked.common | {
        "guidance_scale": 6.0,  # the pipeline's own
        "num_frames": asked.frames(4),
        "pooled_prompt_embeds": asked.given["pooled_text"],
        "prompt_attention_mask": asked.given["text_mask"],
    }
    if asked.picture is None:
        return pipeline("HunyuanVideoPipeline", **parts), call
    made = pipeline("HunyuanVideoImageToVideoPipeline", **parts, image_processor=None)
    return made, call | {"image": asked.picture}


def hunyuan_video_15(asked: Asked) -> Call:
    from diffusers.guiders import ClassifierFreeGuidance

    parts = NO_TEXTS | {"vae": asked.vae, "transformer": asked.denoiser, "scheduler": flow()}
    parts["guider"] = ClassifierFreeGuidance(guidance_scale=1.0)
    call = asked.common | {
        "num_frames": asked.frames(4),
        "prompt_embeds_mask": asked.given["text_mask"],
        "prompt_embeds_2": asked.given["text_2"],
        "prompt_embeds_mask_2": asked.given["text_mask_2"],
    }
    del call["guidance_scale"]
    if asked.picture is None:
        return pipeline("HunyuanVideo15Pipeline", **parts), call
    made = pipeline("HunyuanVideo15ImageToVideoPipeline", **parts, image_encoder=None, feature_extractor=None)
    made.encode_image = lambda **_: asked.given["image_embeds"]
    # It would enlarge the picture to the size that the checkpoint was trained on.
    made.video_processor.calculate_default_height_width = lambda **_: (asked.height, asked.width)
    del call["height"], call["width"]
    return made, call | {"image": asked.picture}


def kandinsky_5(asked: Asked) -> Call:
    parts = NO_TEXTS | {"vae": asked.vae, "transformer": asked.denoiser, "scheduler": flow()}
    text = asked.given["text"]
    call = asked.common | {
        "num_frames": asked.frames(4),
        "prompt_embeds_qwen": text,
        "prompt_embeds_clip": asked.given["pooled_text"],
        "prompt_cu_seqlens": torch.tensor([0, text.shape[1]], dtype=torch.int32),
    }
    del call["prompt_embeds"]
    if asked.picture is None:
        return pipeline("Kandinsky5T2VPipeline", **parts), call
    return pipeline("Kandinsky5I2VPipeline", **parts), call | {"image": asked.picture}


def easyanimate(asked: Asked) -> Call:
    parts = NO_TEXT | {"vae": asked.vae, "transformer": asked.denoiser, "scheduler": flow()}
    t = asked.frames(4)
    call = asked.masked | {"num_frames": t}
    if asked.picture is None:
        return pipeline("EasyAnimatePipeline", **parts), call
    from diffusers.pipelines.easyanimate.pipeline_easyanimate_inpaint import get_image_to_video_latent

    made = pipeline("EasyAnimateInpaintPipeline", **parts)
    size = (asked.height, asked.width)
    video, mask = get_image_to_video_latent([asked.picture], None, t, size)
    made.prepare_latents = partial(_with_other_noise, made.prepare_latents)
    return made, call | {"video": video, "mask_video": mask}


def _with_other_noise(prepare_latents: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Keep the generator for the noise that is added to the picture."""
    others = [torch.Generator() if isinstance(x, torch.Generator) else x for x in args]
    return prepare_latents(*others, **kwargs)


def cosmos(asked: Asked) -> Call:
    parts = NO_TEXT | {
        "vae": asked.vae,
        "transformer": asked.denoiser,
        "scheduler": diffusers.EDMEulerScheduler(),
    }
    call = asked.common | {"num_frames": asked.frames(8), "negative_prompt_embeds": asked.given["text"]}
    # The safety checker is a guardrail, which looks at prompts.
    name = "CosmosTextToWorldPipeline" if asked.picture is None else "CosmosVideoToWorldPipeline"
    made = pipeline(name, **parts, safety_checker=Stub(to=lambda *_: None))
    return made, call if asked.picture is None else call | {"image": asked.picture}


def ltx_video(asked: Asked) -> Call:
    made = pipeline("LTXPipeline", **NO_TEXT, vae=asked.vae, transformer=asked.denoiser, scheduler=flow())
    return made, asked.masked | {"num_frames": asked.frames(8)}


def mochi(asked: Asked) -> Call:
    made = pipeline("MochiPipeline", **NO_TEXT, vae=asked.vae, transformer=asked.denoiser, scheduler=flow())
    return made, asked.masked | {"num_frames": asked.frames(6)}


def sana_video(asked: Asked) -> Call:
    made = pipeline(
        "SanaVideoPipeline", **NO_TEXT, vae=asked.vae, transformer=asked.denoiser, scheduler=flow()
    )
    call = asked.masked | {
        "frames": asked.frames(4),
        "use_resolution_binning": False,
        "negative_prompt": None,
    }
    return made, call


def allegro(asked: Asked) -> Call:
    scheduler = diffusers.EulerAncestralDiscreteScheduler()
    made = pipeline(
        "AllegroPipeline", **NO_TEXT, vae=asked.vae, transformer=asked.denoiser, scheduler=scheduler
    )
    return made, asked.masked | {"num_frames": asked.frames(4, alone=False), "negative_prompt": None}


def latte(asked: Asked) -> Call:
    scheduler = diffusers.DDIMScheduler()
    made = pipeline(
        "LattePipeline", **NO_TEXT, vae=asked.vae, transformer=asked.denoiser, scheduler=scheduler
    )
    call = asked.common | {
        "video_length": asked.latent_frames,
        "mask_feature": False,
        "output_type": "latents",
    }
    return made, call | {"negative_prompt": None, "negative_prompt_embeds": asked.given["text"]}


def animatediff(asked: Asked) -> Call:
    scheduler = diffusers.DDIMScheduler()
    made = pipeline(
        "AnimateDiffPipeline", **NO_TEXT,
        vae=asked.vae, unet=asked.denoiser, motion_adapter=None, scheduler=scheduler,
    )  # fmt: skip
    return made, asked.common | {"num_frames": asked.latent_frames}


def unet_3d(asked: Asked) -> Call:
    scheduler = diffusers.DDIMScheduler()
    made = pipeline(
        "TextToVideoSDPipeline", **NO_TEXT, vae=asked.vae, unet=asked.denoiser, scheduler=scheduler
    )
    return made, asked.common | {"num_frames": asked.latent_frames}


@dataclass(frozen=True)
class Family:
    """A family's pipelines.

    Attributes:
        call: How one is called.
        autoencoders: The classes that its released pipelines have.
    """

    call: Callable[[Asked], Call]
    autoencoders: tuple[str, ...]


PIPELINES: dict[str, Family] = {
    "allegro": Family(allegro, ("AutoencoderKLAllegro",)),
    "animatediff": Family(animatediff, ("AutoencoderKL",)),
    "cogvideox": Family(cogvideox, ("AutoencoderKLCogVideoX",)),
    "cogvideox-15": Family(cogvideox, ("AutoencoderKLCogVideoX",)),
    "cogvideox-i2v": Family(cogvideox, ("AutoencoderKLCogVideoX",)),
    "cogvideox-2b": Family(cogvideox, ("AutoencoderKLCogVideoX",)),
    "cosmos": Family(cosmos, ("AutoencoderKLCosmos",)),
    "easyanimate": Family(easyanimate, ("AutoencoderKLMagvit",)),
    "hunyuan-video": Family(hunyuan_video, ("AutoencoderKLHunyuanVideo",)),
    "hunyuan-video-15": Family(hunyuan_video_15, ("AutoencoderKLHunyuanVideo15",)),
    "i2vgen-xl": Family(i2vgen_xl, ("AutoencoderKL",)),
    "kandinsky-5": Family(kandinsky_5, ("AutoencoderKLHunyuanVideo",)),
    "latte": Family(latte, ("AutoencoderKL",)),
    "ltx-video": Family(ltx_video, ("AutoencoderKLLTXVideo",)),
    "mochi": Family(mochi, ("AutoencoderKLMochi",)),
    "sana-video": Family(sana_video, ("AutoencoderKLWan", "AutoencoderKLLTX2Video")),
    "skyreels-v2": Family(skyreels_v2, ("AutoencoderKLWan",)),
    "stable-video-diffusion": Family(stable_video_diffusion, ("AutoencoderKLTemporalDecoder",)),
    "unet-3d": Family(unet_3d, ("AutoencoderKL",)),
    "wan": Family(wan, ("AutoencoderKLWan",)),
}
"""By the plan's name."""
