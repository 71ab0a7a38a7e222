"""Which number format the forward pass has, where the settings leave it open."""

import torch

from v2w_convert.device import resolve_device
from v2w_convert.finetuning.settings import FinetuneSettings


def with_precision(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings with `mixed_precision` decided, so that a run is resumed in the same or not at all.

    Raises:
        V2WError: The device is not there.
    """
    device = resolve_device(settings.device)
    if settings.mixed_precision != "auto":
        return settings
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    decided = "bf16" if able or settings.weights == "bfloat16" else "no"
    return settings.model_copy(update={"mixed_precision": decided})
