"""Layouts that are known and not read: each with what it is, and what to do instead."""

import re
from collections.abc import Collection

FOLDER = "its release as a diffusers folder"
# A regular expression that finds a name, what the file then is, and what to try; the first that fits.
OTHERS: tuple[tuple[str, str, str], ...] = (
    (
        r"(^|\.)transformer\.layers\.\d+\.attention\.query_key_value|\.mixins\.|^mixins\.",
        "CogVideoX in the layout of SwissArmyTransformer, which diffusers' loaders of single files do not map",
        f"{FOLDER}, such as THUDM/CogVideoX-5b, or scripts/convert_cogvideox_to_diffusers.py of diffusers' repository",
    ),
    (
        r"\.time_stack\.",
        "Stable Video Diffusion in one file, which diffusers' loaders of single files do not map",
        f"{FOLDER}, stabilityai/stable-video-diffusion-img2vid-xt",
    ),
    (
        r"^net\.blocks\.0\.self_attn\.q_proj",
        "the own layout of Cosmos Predict2, whose tensors do not tell its config",
        "CosmosTransformer3DModel.from_single_file(FILE, config='nvidia/Cosmos-Predict2-2B-Video2World', "
        "subfolder='transformer').save_pretrained(BASE)",
    ),
    (
        r"(^|\.)vace_blocks\.\d",
        "Wan VACE, whose blocks for given frames no plan serves",
        "Wan 2.1 or 2.2 themselves",
    ),
    (
        r"(^|\.)fps_embedding\.weight$",
        "SkyReels V2 in its makers' layout, which also takes the frame rate",
        f"{FOLDER}, such as Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers",
    ),
    (
        r"(^|\.)(face_adapter|motion_encoder)\.",
        "Wan Animate, whose pose and face streams are shifted against the frames that they drive",
        "Wan 2.1 or 2.2 themselves",
    ),
    (
        r"(^|\.)audio_patchify_proj\.",
        "LTX-2, in which sound and video see each other",
        "LTX-Video",
    ),
    (
        r"(^|\.)double_blocks\.0\.img_attn_q\.",
        "the own layout of HunyuanVideo 1.5, which diffusers' loaders of single files do not map",
        f"{FOLDER}, hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",
    ),
    (
        r"\.motion_modules\.\d+\.",
        "AnimateDiff's motion modules, which need the image model that they move",
        "unet = UNetMotionModel.from_unet2d(UNet2DConditionModel.from_pretrained(IMAGE_MODEL, subfolder='unet'), "
        "MotionAdapter.from_single_file(FILE)); unet.save_pretrained(BASE)",
    ),
    (
        r"^(encoder|decoder)\.(middle|mid|conv_in|down|up|upsamples|downsamples|blocks)\b|^(encoder|decoder)\.conv",
        "an autoencoder, not a denoiser",
        "the denoiser's file, or the whole folder",
    ),
    (
        r"^(token_embedding\.|shared\.weight|encoder\.block\.\d+\.layer|model\.embed_tokens\.|text_model\.)",
        "an encoder of text, not a denoiser",
        "the denoiser's file, or the whole folder",
    ),
    (
        r"^(double_blocks|single_blocks|joint_blocks)\.\d",
        "an image model in its makers' layout (FLUX, Stable Diffusion 3): it has no time axis to make causal",
        "a video model",
    ),
    (
        r"^(transformer_blocks|down_blocks|condition_embedder|patch_embed|blocks\.\d+\.attn1)\b",
        "a diffusers model's weights without the config.json that says what they are",
        "a folder with this file as diffusion_pytorch_model.safetensors, and the model's config.json beside it",
    ),
)


def name_other(names: Collection[str]) -> tuple[str, str] | None:
    """What a file with tensors of these names is, and what to try; None: nothing that is known."""
    for pattern, what, instead in OTHERS:
        found = re.compile(pattern, re.ASCII)
        if any(found.search(name) for name in names):
            return what, instead
    return None
