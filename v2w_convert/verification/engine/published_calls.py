"""How the code that a family was published with calls its denoiser, written down by hand, apart from all plans.

`call_base` calls the base and the world model alike: a fault in it cancels wherever the two are compared. This is the
second opinion. Each entry follows the denoising loop of diffusers' own pipeline (`diffusers/pipelines`), or, for
DynamiCrafter and Vid2World, `apply_model` in github.com/Doubiiu/DynamiCrafter, lvdm/models/ddpm3d.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from v2w_convert.families import allegro, cogvideox, cosmos, kandinsky, skyreels
from v2w_convert.plan.call import Conditions

Move = Callable[[Tensor], Tensor]
More = Callable[[Mapping[str, Any], int, int, int, Tensor, Tensor], dict[str, Any]]
"""Of config, t, h, w, the prompt's tokens and the latents: further arguments."""


def frames_second(frames: Tensor) -> Tensor:
    """Frames (b t c h w), as they are."""
    return frames


def channels_second(frames: Tensor) -> Tensor:
    """Frames (b t c h w) as (b c t h w), and the other way round."""
    return frames.permute(0, 2, 1, 3, 4)


def channels_last(frames: Tensor) -> Tensor:
    """Frames (b t c h w) as (b t h w c)."""
    return frames.permute(0, 1, 3, 4, 2)


def tokens(frames: Tensor) -> Tensor:
    """Frames (b t c h w) as tokens (b thw c), row by row: `_pack_latents` of LTXPipeline with patches of 1."""
    return frames.permute(0, 1, 3, 4, 2).flatten(1, 3)


@dataclass(frozen=True)
class PublishedCall:
    """How a class is called.

    Attributes:
        lay_out: Frames (b t c h w) as the forward takes them.
        argument: What they are called.
        concatenated: Conditions whose channels follow those of the latents.
        renamed: Condition -> argument, of those that are given as they are.
        laid_out: Condition -> argument, of those that are laid out as frames are.
        repeated: Condition -> argument, of those that every frame is given, one after the other.
        more: Further arguments; None: there are none.
    """

    lay_out: Move = channels_second
    argument: str = "hidden_states"
    concatenated: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=lambda: {"text": "encoder_hidden_states"})
    laid_out: Mapping[str, str] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)
    more: More | None = None

    @property
    def conditions(self) -> set[str]:
        """Names of all conditions that it knows."""
        return {*self.concatenated, *self.renamed, *self.laid_out, *self.repeated}

    def arguments(
        self, config: Mapping[str, Any], latents: Tensor, timestep: Tensor, conditions: Conditions
    ) -> dict[str, Any]:
        """The arguments of the forward.

        Args:
            config: The base's.
            latents: (b t c h w).
            timestep: (b,).
            conditions: (b …), pictures (b t c h w); all that the base takes.
        """
        _, t, _, h, w = latents.shape
        frames = [latents, *(conditions[name] for name in self.concatenated if name in conditions)]
        found: dict[str, Any] = {
            self.argument: self.lay_out(torch.cat(frames, 2)),
            "timestep": timestep,
        }
        found |= {name: conditions[key] for key, name in self.renamed.items() if key in conditions}
        found |= {
            name: self.lay_out(conditions[key]) for key, name in self.laid_out.items() if key in conditions
        }
        for key, name in self.repeated.items():
            one_by_one = conditions[key][:, None].expand(-1, t, *conditions[key].shape[1:])
            found[name] = one_by_one.flatten(0, 1)
        if self.more is not None:
            found |= self.more(config, t, h, w, conditions["text"], latents)
        return found

    def frames(self, laid_out: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        """Frames (b t c h w) of what is laid out as the forward takes or returns them, beside these arguments.

        The channels of concatenated conditions, or of a variance that the base predicts, follow those of the latents.
        """
        if self.lay_out is tokens:
            sizes = [arguments[name] for name in ("num_frames", "height", "width")]
            laid_out = laid_out.reshape(len(laid_out), *sizes, -1)
        if self.lay_out in (tokens, channels_last):
            return laid_out.permute(0, 1, 4, 2, 3)
        return laid_out.permute(0, 2, 1, 3, 4) if self.lay_out is channels_second else laid_out


TEXT = {"text": "encoder_hidden_states"}
MASKED = TEXT | {"text_mask": "encoder_attention_mask"}
PICTURED = TEXT | {"image_embeds": "encoder_hidden_states_image"}


def _cogvideox(
    config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor
) -> dict[str, Any]:
    rotary = config["use_rotary_positional_embeddings"]
    return cogvideox.arguments(config, t, h, w, text, like) if rotary else {}


def _cosmos(config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor) -> dict[str, Any]:
    return {"fps": 30, **cosmos.arguments(config, t, h, w, text, like)}


def _ltx(config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor) -> dict[str, Any]:
    # 8 video frames to a latent one at 25 frames a second, 32 pixels along a side.
    return {"num_frames": t, "height": h, "width": w, "rope_interpolation_scale": [8 / 25, 32, 32]}


DYNAMICRAFTER = PublishedCall(
    argument="sample",
    concatenated=("image_latents",),
    renamed=TEXT | {"fs": "fs"},
    repeated={"image_embeds": "image_tokens"},
)
PUBLISHED_CALLS: dict[str, PublishedCall] = {
    "AllegroTransformer3DModel": PublishedCall(renamed=MASKED, more=allegro.arguments),
    "CogVideoXTransformer3DModel": PublishedCall(
        frames_second, concatenated=("image_latents",), renamed=TEXT | {"ofs": "ofs"}, more=_cogvideox
    ),
    "CosmosTransformer3DModel": PublishedCall(laid_out={"condition_mask": "condition_mask"}, more=_cosmos),
    "DynamiCrafterUNet": DYNAMICRAFTER,
    "EasyAnimateTransformer3DModel": PublishedCall(laid_out={"image_latents": "inpaint_latents"}),
    "HunyuanVideo15Transformer3DModel": PublishedCall(
        concatenated=("image_latents",),
        renamed=MASKED
        | {
            "text_2": "encoder_hidden_states_2",
            "text_mask_2": "encoder_attention_mask_2",
            "image_embeds": "image_embeds",
        },
    ),
    "HunyuanVideoTransformer3DModel": PublishedCall(
        concatenated=("image_latents",),
        renamed=MASKED | {"pooled_text": "pooled_projections", "guidance": "guidance"},
    ),
    "I2VGenXLUNet": PublishedCall(
        argument="sample",
        renamed=TEXT | {"image_embeds": "image_embeddings", "fps": "fps"},
        laid_out={"image_latents": "image_latents"},
    ),
    "Kandinsky5Transformer3DModel": PublishedCall(
        channels_last,
        concatenated=("image_latents",),
        renamed=TEXT | {"pooled_text": "pooled_projections"},
        more=kandinsky.arguments,
    ),
    "LTXVideoTransformer3DModel": PublishedCall(tokens, renamed=MASKED, more=_ltx),
    "LatteTransformer3DModel": PublishedCall(),
    "MochiTransformer3DModel": PublishedCall(renamed=MASKED),
    "SanaVideoTransformer3DModel": PublishedCall(renamed=MASKED),
    "SkyReelsV2Transformer3DModel": PublishedCall(
        concatenated=("image_latents",), renamed=PICTURED, more=skyreels.arguments
    ),
    "UNet3DConditionModel": PublishedCall(argument="sample"),
    "UNetMotionModel": PublishedCall(argument="sample", renamed={}, repeated=TEXT),
    "UNetSpatioTemporalConditionModel": PublishedCall(
        frames_second,
        argument="sample",
        concatenated=("image_latents",),
        renamed=TEXT | {"added_time_ids": "added_time_ids"},
    ),
    "Vid2WorldUNet": DYNAMICRAFTER,
    "WanTransformer3DModel": PublishedCall(concatenated=("image_latents",), renamed=PICTURED),
}
"""By the base's class."""
