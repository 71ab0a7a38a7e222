"""A picture -> its embedding, a condition of a plan, by the folder's own image encoder."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from v2w_convert.encoders.components import (
    INDEX,
    INSTALL,
    encoder_pipeline,
    encoders_named,
    one_line_of,
    pipeline_name,
    transformers_installed,
    weights_obstacle,
)
from v2w_convert.encoders.families import PICTURES
from v2w_convert.encoders.prompt import ONE, as_conditions
from v2w_convert.errors import V2WError
from v2w_convert.plan.call import Conditions
from v2w_convert.plan.resolve import ResolvedPlan

ENCODERS = ("image_encoder", "feature_extractor", "image_processor")


def picture_obstacle(folder: Path, resolved: ResolvedPlan) -> str | None:
    """Why no picture can be embedded with what is in `folder`; None: it can."""
    name = pipeline_name(folder)
    if not name:
        return f"there is no pipeline's {INDEX}"
    if name not in PICTURES:
        return f"the pictures of a {name:.80} are not embedded"
    if PICTURES[name][1] not in resolved.call.conditions:
        return "its plan has no image embedding"
    if "image_encoder" not in encoders_named(folder, ENCODERS.__contains__):
        return "there is no image encoder in the folder"
    if not transformers_installed():
        return f"transformers is not installed: {INSTALL}"
    return weights_obstacle(folder, ["image_encoder"])


@contextmanager
def picture_encoder(
    folder: Path, resolved: ResolvedPlan, device: torch.device
) -> Iterator[Callable[[NDArray[np.uint8]], Conditions]]:
    """A function that embeds a picture (height width 3) as the folder's own pipeline does.

    What it returns is by name, unbatched, on the CPU.

    The encoder is freed when the block ends.

    Raises:
        V2WError: The folder has no image encoder that is served, or it cannot be read or does not fit the denoiser.
    """
    asked = f"embed a picture with the image encoder of {folder}"
    if (obstacle := picture_obstacle(folder, resolved)) is not None:
        raise V2WError(asked, obstacle)
    names = encoders_named(folder, ENCODERS.__contains__)
    with encoder_pipeline(folder, resolved, names, device) as pipeline:
        name, condition = PICTURES[pipeline_name(folder)]
        method = getattr(pipeline, name)
        takes = inspect.signature(method).parameters
        options = dict.fromkeys(ONE, 1) | {
            "device": device,
            "dtype": torch.float32,
            "do_classifier_free_guidance": False,
        }
        pipeline._guidance_scale = 1.0
        given = {name: value for name, value in options.items() if name in takes}

        def encode(picture: NDArray[np.uint8]) -> Conditions:
            with one_line_of(name, asked):
                found = method(_prepared(pipeline, Image.fromarray(picture)), **given)
            return as_conditions(resolved, {condition: found}, asked)

        yield encode


def _prepared(pipeline: Any, image: Image.Image) -> Image.Image:
    """The picture as the pipeline's `__call__` hands it to its image encoder."""
    if type(pipeline).__name__ != "I2VGenXLPipeline":
        return image
    module: Any = sys.modules[type(pipeline).__module__]
    size = pipeline.feature_extractor.crop_size
    cropped = module._center_crop_wide(image, (image.width, image.width))
    prepared: Image.Image = module._resize_bilinear(cropped, (size["width"], size["height"]))
    return prepared
