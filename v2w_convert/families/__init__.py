"""What a plan cannot say: arguments that a family's pipeline computes, models that diffusers lacks, and what is refused."""

from collections.abc import Mapping
from typing import Any, Protocol

import diffusers
import diffusers.models
from torch import Tensor

from v2w_convert.families import allegro, cogvideox, cosmos, kandinsky, skyreels
from v2w_convert.families.dynamicrafter import DynamiCrafterUNet
from v2w_convert.families.image_conditions import IMAGE_CONDITIONS as IMAGE_CONDITIONS
from v2w_convert.families.vid2world import Vid2WorldUNet


class Computed(Protocol):
    """A function that computes more arguments of a base's forward."""

    def __call__(
        self, config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor, /
    ) -> dict[str, Any]:
        """The arguments by name.

        Args:
            config: The base's.
            t: Latent frames in a clip.
            h: Height of the latents.
            w: Width of the latents.
            text: (b n d), the prompt's tokens.
            like: The latents, for their device and dtype.
        """


COMPUTED_ARGUMENTS: dict[str, Computed] = {
    "allegro": allegro.arguments,
    "cogvideox": cogvideox.arguments,
    "cosmos": cosmos.arguments,
    "kandinsky5": kandinsky.arguments,
    "skyreels": skyreels.arguments,
}

# Models that diffusers lacks.
MODELS: dict[str, type[diffusers.ModelMixin]] = {
    "DynamiCrafterUNet": DynamiCrafterUNet,
    "Vid2WorldUNet": Vid2WorldUNet,
}


def model_class(name: str) -> Any:
    """The class of a base: one of ours, else diffusers' own. No code of a checkpoint is run.

    Raises:
        ValueError: There is no model of that name.
    """
    # Not of all of diffusers: a name from a file would import a pipeline, and with it transformers.
    kind = MODELS.get(name) or getattr(diffusers.models, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise ValueError(f"diffusers has no model {name!r}")
    return kind


# Pipelines that call a served class as its plan does not, by the class that model_index.json names: what they do, and what
# to try. Their folders are refused.
PREDICT2 = (
    "it tells its denoiser sigma / (sigma + 1), scales its input and splits its output by formulas of its own, which no "
    "kind of noise has",
    "a Cosmos 1.0 checkpoint",
)
REFUSED_PIPELINES: dict[str, tuple[str, str]] = {
    "Cosmos2TextToImagePipeline": PREDICT2,
    "Cosmos2VideoToWorldPipeline": PREDICT2,
    "Cosmos2_5_PredictBasePipeline": PREDICT2,
    "LTXConditionPipeline": (
        "it gives its denoiser positions of its own, in which the first latent frame is one picture long, and noise levels "
        "of its own, whatever its scheduler says",
        'LTXPipeline, whose positions and levels the plan has, as "_class_name" in model_index.json, to train it with those',
    ),
}

# Video models of diffusers that cannot be converted, and why.
CAUSAL = "it is causal already: its frames see no later ones"
REFUSED = {
    "AnyFlowFARTransformer3DModel": CAUSAL,
    "HeliosTransformer3DModel": "it is autoregressive already: each chunk sees the chunks before it as packed history",
    "HunyuanVideoFramepackTransformer3DModel": "it is autoregressive already: it sees packed history",
    "SanaWMTransformer3DModel": "it is a world model already, steered by a camera's path, and its recurrence runs "
    "both ways through modules that no operation serves",
    "SanaWMLTX2RefinerTransformer3DModel": "it is autoregressive already, and refines what another model made",
    "Kandinsky6SRTransformer3DModel": "it enlarges videos that are there already; and its sparse attention chooses by "
    "content what a token sees",
    "Kandinsky6Transformer3DModel": "sound and video see each other in it, so sound would carry the future",
    "LTX2VideoTransformer3DModel": "sound and video see each other in it, so sound would carry the future",
    "WanAnimate2Transformer3DModel": "it takes lists of clips, and animates a reference through a cache of its own",
    "WanAnimateTransformer3DModel": "its pose and face streams are shifted against the frames that they drive",
    "Cosmos3OmniTransformer": "it packs text, frames and actions into one sequence, and takes actions already",
    "MiniMaxH3Transformer3DModel": "it packs text, sound and frames into one sequence",
}
