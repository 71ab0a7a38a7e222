"""DynamiCrafter's UNet, which diffusers lacks: the base that Vid2World converts (DynamiCrafter, arXiv 2310.12190).

Parameters are named as in the released checkpoints, behind their prefix `model.diffusion_model.`. Those of 320 × 512 and
576 × 1024 pixels differ in `default_fs` alone; that of 256 × 256 also has `image_scale_learnable`.
"""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from einops import rearrange
from torch import Tensor, nn

from v2w_convert.families.dynamicrafter_layers import (
    GROUPS,
    Down,
    Embedding,
    Guidance,
    Residual,
    SpatialTransformer,
    TemporalTransformer,
    Up,
    zeroed,
)

FIRST_HEADS = 8  # of the attention right behind the first convolution, however wide that is


class DynamiCrafterUNet(ModelMixin, ConfigMixin):
    """A UNet over latent clips, conditioned on a prompt, an image and a frame rate.

    Args:
        in_channels: Of the latents and what is concatenated to them: the image's latent for every frame.
        out_channels: Of the prediction.
        model_channels: Of the first level; a multiple of 32.
        channel_mult: Each level's channels, in multiples of these; each level is half as high and wide.
        num_res_blocks: Of a level on the way down; there is one more on the way up.
        attention_resolutions: Levels that attend, named by how many times smaller they are.
        num_head_channels: Width of each head.
        context_dim: Width of text and image tokens.
        image_scale_learnable: Whether each spatial attention weighs its image tokens (the 256 model).
        addition_attention: Whether frames attend to each other right behind the first convolution.
        fs_condition: Whether the model receives a frame rate or frame stride.
        default_fs: Which, where the call gives none (256: 3, 512: 24, 1024: 10).
        temporal_length: Frames of the clips it was trained on; the model takes any number.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 8,
        out_channels: int = 4,
        model_channels: int = 320,
        channel_mult: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attention_resolutions: tuple[int, ...] = (4, 2, 1),
        num_head_channels: int = 64,
        context_dim: int = 1024,
        image_scale_learnable: bool = False,
        addition_attention: bool = True,
        fs_condition: bool = True,
        default_fs: int = 24,
        temporal_length: int = 16,
    ):
        super().__init__()
        self.gradient_checkpointing = False
        self.time_embed = Embedding(model_channels)
        self.fps_embedding = Embedding(model_channels) if fs_condition else None
        if self.fps_embedding is not None:
            zeroed(self.fps_embedding["2"])

        def residual(channels: int, out: int) -> nn.Module:
            return Residual(channels, out, 4 * model_channels)

        def transformers(channels: int) -> list[nn.Module]:
            heads = channels // num_head_channels
            spatial = SpatialTransformer(channels, heads, context_dim, image_scale_learnable)
            return [spatial, TemporalTransformer(channels, heads)]

        channels = model_channels
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(in_channels, channels, 3, padding=1)])])
        if addition_attention:
            width = FIRST_HEADS * num_head_channels
            self.init_attn = nn.ModuleList([TemporalTransformer(channels, FIRST_HEADS, width)])
        else:
            self.init_attn = nn.ModuleList()

        skipped = [channels]
        deepest = len(channel_mult) - 1
        for level, times in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                layers = [residual(channels, times * model_channels)]
                channels = times * model_channels
                if 2**level in attention_resolutions:
                    layers += transformers(channels)
                self.input_blocks.append(nn.ModuleList(layers))
                skipped.append(channels)
            if level != deepest:
                self.input_blocks.append(nn.ModuleList([Down(channels)]))
                skipped.append(channels)

        middle = [residual(channels, channels), *transformers(channels), residual(channels, channels)]
        self.middle_block = nn.ModuleList(middle)

        self.output_blocks = nn.ModuleList()
        for level, times in reversed(list(enumerate(channel_mult))):
            for number in range(num_res_blocks + 1):
                layers = [residual(channels + skipped.pop(), times * model_channels)]
                channels = times * model_channels
                if 2**level in attention_resolutions:
                    layers += transformers(channels)
                if level and number == num_res_blocks:
                    layers.append(Up(channels))
                self.output_blocks.append(nn.ModuleList(layers))

        last = zeroed(nn.Conv2d(channels, out_channels, 3, padding=1))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), last)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        image_tokens: Tensor,
        fs: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet3DConditionOutput | tuple[Tensor]:
        """The prediction (b c t h w), of the parameters' dtype.

        Args:
            sample: (b c t h w), any t; h and w divisible as often as the levels halve them.
            timestep: (b,), the noise level of each clip.
            encoder_hidden_states: (b n d) text, n of any number.
            image_tokens: ((b t) m d), each frame's own, m of any number.
            fs: (b,) frames per second (of the 256 model: frame stride); None: `default_fs`.
            return_dict: Whether the prediction comes in diffusers' output class, and not in a tuple.

        Raises:
            ValueError: Image tokens are not given for every frame.
        """
        b, _, t = sample.shape[:3]
        if len(image_tokens) != b * t:
            raise ValueError(
                f"image tokens are {tuple(image_tokens.shape)} for {b} clips of {t} frames, not ({b * t} m d)"
            )
        embedding = self.time_embed(self._waves(timestep))
        if self.fps_embedding is not None:
            if fs is None:
                fs = torch.full((b,), self.config.default_fs, device=sample.device)
            embedding = embedding + self.fps_embedding(self._waves(fs))
        guidance = Guidance(
            t, embedding.repeat_interleave(t, 0), encoder_hidden_states.repeat_interleave(t, 0), image_tokens
        )

        frames = self.input_blocks[0].get_submodule("0")(rearrange(sample, "b c t h w -> (b t) c h w"))
        frames = self._through(self.init_attn, frames, guidance)
        skipped = [frames]
        for layers in self.input_blocks[1:]:
            frames = self._through(layers, frames, guidance)
            skipped.append(frames)
        frames = self._through(self.middle_block, frames, guidance)
        for layers in self.output_blocks:
            frames = self._through(layers, torch.cat([frames, skipped.pop()], 1), guidance)
        output = rearrange(self.out(frames), "(b t) c h w -> b c t h w", t=t)
        return UNet3DConditionOutput(sample=output) if return_dict else (output,)

    def _waves(self, numbers: Tensor) -> Tensor:
        """Numbers (b,) as cosines and sines (b c), computed in float32 whatever the model's dtype."""
        waves = get_timestep_embedding(
            numbers, self.config.model_channels, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        output: Tensor = waves.to(self.dtype)
        return output

    def _through(self, layers: nn.Module, frames: Tensor, guidance: Guidance) -> Tensor:
        for layer in layers.children():
            if self.gradient_checkpointing and torch.is_grad_enabled():
                frames = self._gradient_checkpointing_func(layer, frames, guidance)
            else:
                frames = layer(frames, guidance)
        return frames
