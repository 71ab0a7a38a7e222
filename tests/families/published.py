"""The sizes on which plans are resolved, of `tests.pipelines.releases`, and the tiny models that tests try."""

from typing import Any, NamedTuple

from tests.pipelines.releases import RELEASES

# Imported with the actions they were trained with, one of them leaking: tests/families/test_vid2world.py
TRAINED = {"vid2world", "vid2world-repaired"}

PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, int]]] = {}
"""For every plan one release: what differs from its class's defaults, and the sites that the plan finds."""

ALSO_PUBLISHED: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {}
"""Other releases of the same classes: the plan, what differs from the class's defaults, and the sites."""

for release in RELEASES.values():
    if release.sites is None:
        continue
    if release.plan in PUBLISHED:
        ALSO_PUBLISHED[release.name] = release.plan, release.config, release.sites
    else:
        PUBLISHED[release.plan] = release.config, release.sites


class Case(NamedTuple):
    """A tiny model: its plan, what differs from the plan's tiny configuration, and the view that the plan is adjusted to."""

    plan: str
    overrides: dict[str, Any] = {}
    view: dict[str, Any] = {}


# Checkpoints with more conditions than a prompt.
IMAGE_TO_VIDEO = {
    "wan, image to video": Case("wan", {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}),
    "cogvideox, image to video": Case("cogvideox", {"in_channels": 8, "ofs_embed_dim": 4}),
    "hunyuan-video, image to video": Case(
        "hunyuan-video", {"in_channels": 9, "image_condition_type": "latent_concat"}
    ),
    "kandinsky-5, image to video": Case("kandinsky-5", {"visual_cond": True}),
    "skyreels-v2, with sample info": Case("skyreels-v2", {"inject_sample_info": True}),
    "cosmos, video to world": Case("cosmos", {"in_channels": 5}),
    "easyanimate, inpainting": Case("easyanimate", {"in_channels": 9}),
}
# Blocks of several frames, and sinks: every kind of site, and every kind of positions.
VIEWS = {
    "wan, blocks of 3": Case("wan", {}, {"frames_per_block": 3, "window": 6, "sinks": 3}),
    "cogvideox, sinks": Case("cogvideox", {}, {"window": 4, "sinks": 2}),
    "cogvideox-15, blocks of 4": Case("cogvideox-15", {}, {"frames_per_block": 4, "window": 8}),
    "cogvideox-2b, blocks of 2": Case("cogvideox-2b", {}, {"frames_per_block": 2, "window": 4}),
    "stable-video-diffusion, blocks of 2": Case(
        "stable-video-diffusion", {}, {"frames_per_block": 2, "window": 4}
    ),
    "animatediff, blocks of 3": Case("animatediff", {}, {"frames_per_block": 3, "window": 6}),
    "cosmos, blocks of 2": Case("cosmos", {}, {"frames_per_block": 2, "window": 6}),
    "mochi, blocks of 2": Case("mochi", {}, {"frames_per_block": 2, "window": 6, "sinks": 2}),
    "sana-video, blocks of 2": Case("sana-video", {}, {"frames_per_block": 2}),
    "unet-3d, sinks": Case("unet-3d", {}, {"window": 3, "sinks": 1}),
}
