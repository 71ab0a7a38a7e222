"""Checkpoints as their makers publish them: which layouts there are, and how each becomes diffusers' own.

Names and pieces of tensors are mapped by diffusers' functions for single files; what no function of theirs says, the
config and the scheduler, is inferred from shapes and taken from diffusers' conversion scripts.
"""

from v2w_convert.checkpoint.layouts.cosmos import COSMOS
from v2w_convert.checkpoint.layouts.hunyuan_video import HUNYUAN_VIDEO
from v2w_convert.checkpoint.layouts.layout import Layout, Tensors
from v2w_convert.checkpoint.layouts.ltx_video import LTX_VIDEO
from v2w_convert.checkpoint.layouts.mochi import MOCHI
from v2w_convert.checkpoint.layouts.wan import WAN
from v2w_convert.checkpoint.names import DENOISER

LAYOUTS: tuple[Layout, ...] = (WAN, LTX_VIDEO, HUNYUAN_VIDEO, MOCHI, COSMOS)


def find_layout(tensors: Tensors) -> tuple[Layout, str] | None:
    """The layout that these tensors have, and the prefix of the denoiser's names; None: none of these."""
    for prefix in (DENOISER, ""):
        for layout in LAYOUTS:
            extended = tuple(prefix + start for start in layout.absent)
            if all(prefix + mark in tensors for mark in layout.marks) and not any(
                name.startswith(extended) for name in tensors
            ):
                return layout, prefix
    return None
