"""Weights that are not a whole model in full precision, known by their names and dtypes: adapters and quantised ones."""

import re
from collections.abc import Mapping
from typing import Any

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.listing import few
from v2w_convert.errors import V2WError

LORA = re.compile(
    r"(^|\.|_)lora(_|\.)(A|B|up|down)(\.\w+)?\.weight$|(^|\.)hada_w[12]_[ab]$|(^|\.)lokr_w\w+$", re.ASCII
)
QUANTISED = re.compile(
    r"(^|\.)(scaled_fp8|scale_weight|weight_scale(_2)?|input_scale|scale_input|SCB|weight_format|comfy_quant)$"
    r"|\.(absmax|nested_absmax|quant_map|nested_quant_map|qweight|qzeros|g_idx)$"
    r"|\.quant_state\."
)
SMALL = ("F8_", "F6_", "F4")
SHARE = 10  # of so many matrices, more than one in few bits is a quantised model's
CODE = {
    "auto_map",
    "custom_pipeline",
    "custom_pipelines",
}  # entries that make loaders run code of the checkpoint
PRECISE = "the same model in bf16, fp16 or fp32"
MERGE = (
    "merge it into its base first: pipe = DiffusionPipeline.from_pretrained(BASE); "
    "pipe.load_lora_weights(LORA); pipe.fuse_lora(); pipe.unload_lora_weights(); pipe.save_pretrained(MERGED)"
)


def check_tensors_usable(tensors: Mapping[str, TensorInfo], asked: str) -> None:
    """Check that these are a model's own weights.

    Raises:
        V2WError: If they are adapters, or quantised.
    """
    adapters = [name for name in tensors if LORA.search(name)]
    if adapters:
        rest = len(tensors) - len(adapters)
        what = "an unmerged LoRA beside the weights" if rest else "a LoRA: a change of a model, not a model"
        raise V2WError(asked, f"{what} ({few(adapters[:2])})", MERGE)
    scales = [name for name in tensors if QUANTISED.search(name)]
    if scales:
        raise V2WError(asked, f"quantised weights, with their scales ({few(scales[:2])})", PRECISE)


def check_precise(tensors: Mapping[str, TensorInfo], asked: str) -> None:
    """Check that the matrices are stored in full numbers.

    Raises:
        V2WError: If many are stored in so few bits that they are a quantised model's.
    """
    matrices = {name: info.dtype for name, info in tensors.items() if len(info.shape) > 1}
    few_bits = [name for name, dtype in matrices.items() if dtype.startswith(SMALL)]
    if len(few_bits) * SHARE > len(matrices):
        dtypes = sorted({matrices[name] for name in few_bits})
        raise V2WError(
            asked, f"{len(few_bits)} of {len(matrices)} matrices are quantised to {few(dtypes)}", PRECISE
        )


def check_config_usable(config: Mapping[str, Any], file: object, asked: str) -> None:
    """Check that a config.json asks for no code of the checkpoint, and describes no quantised model.

    Raises:
        V2WError: It does.
    """
    if foreign := sorted(CODE & config.keys()):
        raise V2WError(
            asked,
            f"{file} has {', '.join(foreign)}: the checkpoint brings its own code, which v2w never runs",
            "a model of a class that diffusers has",
        )
    quantised = config.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise V2WError(
            asked, f"{file} says that the weights are quantised ({method or 'quantization_config'})", PRECISE
        )
