"""The denoiser of the checkpoints that Vid2World released (arXiv 2505.14357): DynamiCrafter's, made causal and trained.

Its convolutions over time and its attentions are DynamiCrafter's here, as any base's: the plan says that they see the
past only. What is the class's own is the embedding of an action, and the last convolution, which the paper's
code made causal along the image's height as well.
"""

import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from v2w_convert.families.dynamicrafter import DynamiCrafterUNet
from v2w_convert.families.dynamicrafter_layers import zeroed


class HeightCausalConv2d(nn.Conv2d):
    """A 3 × 3 convolution whose row y reads rows y - 2, y - 1 and y; above the first there are zeros."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 3, padding=(0, 1))

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(F.pad(frames, (0, 0, 2, 0)))


class Vid2WorldUNet(DynamiCrafterUNet):
    """`DynamiCrafterUNet` with an embedding of actions.

    Args:
        action_dim: Numbers in one action.
        multi_hot: Whether an action is a row of switches, each with a vector of its own (the model for CS:GO).
        in_channels: As in `DynamiCrafterUNet`, as the arguments that follow.
        out_channels: As there.
        model_channels: As there.
        channel_mult: As there.
        num_res_blocks: As there.
        attention_resolutions: As there.
        num_head_channels: As there.
        context_dim: As there.
        image_scale_learnable: As there.
        addition_attention: As there.
        fs_condition: As there.
        default_fs: As there.
        temporal_length: As there.
    """

    @register_to_config
    def __init__(
        self,
        action_dim: int = 13,
        multi_hot: bool = False,
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
        default_fs: int = 3,
        temporal_length: int = 16,
    ):
        super().__init__(  # by name: diffusers takes what is passed by position for a default
            in_channels=in_channels,
            out_channels=out_channels,
            model_channels=model_channels,
            channel_mult=channel_mult,
            num_res_blocks=num_res_blocks,
            attention_resolutions=attention_resolutions,
            num_head_channels=num_head_channels,
            context_dim=context_dim,
            image_scale_learnable=image_scale_learnable,
            addition_attention=addition_attention,
            fs_condition=fs_condition,
            default_fs=default_fs,
            temporal_length=temporal_length,
        )
        channels, wide = model_channels, 4 * model_channels
        self.out[2] = zeroed(HeightCausalConv2d(channels * channel_mult[0], out_channels))
        layers: list[nn.Module] = [nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, wide)]
        if multi_hot:
            self.action_emb_preprocess = nn.Embedding(action_dim, channels)
        else:
            layers = [nn.Linear(action_dim, channels), nn.SiLU(), *layers]
        self.action_emb_proj = nn.Sequential(*layers)

    def embed_action(self, actions: Tensor) -> Tensor:
        """Actions (… a), as they were recorded -> (… d), to be added to the embedding of the noise level."""
        if self.config.multi_hot:
            actions = actions @ self.action_emb_preprocess.weight
        output: Tensor = self.action_emb_proj(actions)
        return output
