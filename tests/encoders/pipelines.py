"""Pipelines of diffusers with a tiny denoiser and tiny encoders, without autoencoder, and what they give the denoiser."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch

from tests.autoencoders import tiny_autoencoder
from tests.encoders import tiny
from tests.tiny import component, tiny_model, tiny_plan

FLOW, DDIM = diffusers.FlowMatchEulerDiscreteScheduler, diffusers.DDIMScheduler
Parts = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Family:
    """One pipeline.

    Attributes:
        pipeline: Its class in diffusers.
        plan: The plan of its denoiser.
        parts: Its tokenizers and encoders, by component.
        scheduler: The scheduler's class.
        config: Of the denoiser, other than the plan's tiny one.
        call: More arguments of the pipeline's call.
        settings: More arguments of the pipeline's constructor.
    """

    pipeline: str
    plan: str
    parts: Parts
    scheduler: Any = FLOW
    config: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """The pipeline."""
        plan = tiny_plan(self.plan)
        torch.manual_seed(0)
        parts = {name: make() for name, make in self.parts.items()}
        parts[component(plan)] = tiny_model(self.plan, self.config)
        return getattr(diffusers, self.pipeline)(
            **({"vae": None} | self.settings | parts | {"scheduler": self.scheduler()})
        )

    def save(self, folder: Path) -> Path:
        """The pipeline's folder."""
        self.build().save_pretrained(folder)
        return folder

    def given(self, **arguments: Any) -> dict[str, Any]:
        """What the denoiser is first called with when the pipeline is called with these arguments, without guidance."""
        pipeline = self.build()
        denoiser = getattr(pipeline, component(tiny_plan(self.plan)))
        recorded: dict[str, Any] = {}

        def record(*_: Any, **received: Any) -> None:
            recorded.update(received)
            raise _Recorded

        denoiser.forward = record
        options = {"height": 32, "width": 32, "guidance_scale": 1.0, "num_inference_steps": 1} | self.call
        known = inspect.signature(type(pipeline).__call__).parameters
        encoder = getattr(pipeline, "text_encoder", None)
        if encoder is not None and not hasattr(
            encoder, "text_model"
        ):  # I2VGen-XL was written for transformers 4
            encoder.__dict__["text_model"] = encoder
        try:
            pipeline(**{name: value for name, value in (options | arguments).items() if name in known})
        except _Recorded:
            return recorded
        raise AssertionError("the denoiser was not called")


class _Recorded(Exception):
    """The denoiser was called."""


def t5(width: int, kind: str = "T5EncoderModel") -> Parts:
    """A T5 and its tokenizer."""
    return {"tokenizer": tiny.t5_tokenizer, "text_encoder": lambda: tiny.t5(width, kind)}


def clip(width: int) -> Parts:
    """CLIP's text encoder and its tokenizer."""
    return {"tokenizer": tiny.clip_tokenizer, "text_encoder": lambda: tiny.clip_text(width)}


class Unchecked(torch.nn.Module):
    """In place of Cosmos' check of prompts, a package of its own."""

    device = torch.device("cpu")

    def check_text_safety(self, _: str) -> bool:
        return True


def pair(width: int, width_2: int, first: Callable[[int], Any]) -> Parts:
    """A language model and CLIP, each with its tokenizer."""
    return {
        "tokenizer": tiny.language_tokenizer,
        "text_encoder": lambda: first(width),
        "tokenizer_2": tiny.clip_tokenizer,
        "text_encoder_2": lambda: tiny.clip_text(width_2),
    }


def hunyuan_15() -> Parts:
    """A language model, and a T5 of bytes, each with its tokenizer."""
    return {
        "tokenizer": tiny.chat_tokenizer,
        "text_encoder": lambda: tiny.qwen_text(16),
        "tokenizer_2": tiny.byte_tokenizer,
        "text_encoder_2": lambda: tiny.t5(8, vocabulary=384),
    }


def picture(width: int, projected: bool) -> Parts:
    """CLIP's image encoder and its preparation of pictures, as Wan names them."""
    return {
        "image_processor": tiny.image_processor,
        "image_encoder": lambda: tiny.clip_vision(width, projected),
    }


def feature(width: int) -> Parts:
    """CLIP's image encoder and its preparation of pictures, as Stable Video Diffusion names them."""
    return {
        "feature_extractor": tiny.image_processor,
        "image_encoder": lambda: tiny.clip_vision(width, True),
    }


def image_autoencoder() -> Any:
    """Of single pictures, twice as large as their latents."""
    return diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        norm_num_groups=4,
    )


UMT5 = "UMT5EncoderModel"
UNIPC = diffusers.UniPCMultistepScheduler
PROMPTED = [
    Family("AllegroPipeline", "allegro", t5(8), DDIM),
    Family("AnimateDiffPipeline", "animatediff", clip(16), DDIM, settings={"motion_adapter": None}),
    Family(
        "CogVideoXPipeline",
        "cogvideox",
        t5(8),
        diffusers.CogVideoXDDIMScheduler,
        {"max_text_seq_length": 226},
    ),
    Family(
        "CosmosTextToWorldPipeline",
        "cosmos",
        t5(16),
        diffusers.EDMEulerScheduler,
        settings={"safety_checker": Unchecked()},
    ),
    Family(
        "EasyAnimatePipeline", "easyanimate", {"tokenizer": tiny.chat_tokenizer, "text_encoder": tiny.qwen_vl}
    ),
    Family("HunyuanVideoPipeline", "hunyuan-video", pair(16, 8, tiny.llama)),
    Family(
        "HunyuanVideo15Pipeline",
        "hunyuan-video-15",
        hunyuan_15(),
        settings={"guider": tiny.no_guidance(), "vae": tiny_autoencoder("AutoencoderKLHunyuanVideo15")},
    ),
    Family("LattePipeline", "latte", t5(8), DDIM),
    Family("LTXPipeline", "ltx-video", t5(16)),
    Family("MochiPipeline", "mochi", t5(16), call={"num_inference_steps": 2}),
    Family(
        "MochiPipeline",
        "mochi",
        t5(16),
        call={"num_inference_steps": 2},
        settings={"force_zeros_for_empty_prompt": True},
    ),
    Family(
        "SanaVideoPipeline",
        "sana-video",
        {"tokenizer": tiny.language_tokenizer, "text_encoder": lambda: tiny.gemma(16)},
        call={"use_resolution_binning": False},
    ),
    Family("SkyReelsV2Pipeline", "skyreels-v2", t5(16, UMT5), UNIPC),
    Family("TextToVideoSDPipeline", "unet-3d", clip(8), DDIM),
    Family("WanPipeline", "wan", t5(16, UMT5)),
]

WAN_IMAGE = {"in_channels": 12, "image_dim": 8, "added_kv_proj_dim": 24}
PICTURED = [
    Family(
        "StableVideoDiffusionPipeline",
        "stable-video-diffusion",
        feature(16),
        diffusers.EulerDiscreteScheduler,
        settings={"vae": tiny_autoencoder("AutoencoderKLTemporalDecoder")},
    ),
    Family(
        "WanImageToVideoPipeline",
        "wan",
        t5(16, UMT5) | picture(8, False),
        config=WAN_IMAGE,
        settings={"vae": tiny_autoencoder("AutoencoderKLWan")},
    ),
    Family(
        "SkyReelsV2ImageToVideoPipeline",
        "skyreels-v2",
        t5(16, UMT5) | picture(8, False),
        UNIPC,
        WAN_IMAGE,
        settings={"vae": tiny_autoencoder("AutoencoderKLWan")},
    ),
    Family(
        "I2VGenXLPipeline", "i2vgen-xl", clip(8) | feature(8), DDIM, settings={"vae": image_autoencoder()}
    ),
    Family(
        "HunyuanVideo15ImageToVideoPipeline",
        "hunyuan-video-15",
        hunyuan_15() | {"feature_extractor": tiny.siglip_processor, "image_encoder": lambda: tiny.siglip(12)},
        settings={"guider": tiny.no_guidance(), "vae": tiny_autoencoder("AutoencoderKLHunyuanVideo15")},
    ),
]
