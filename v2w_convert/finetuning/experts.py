"""Which of a model's denoisers are trained. A model with one denoiser has one, named ""."""

from collections.abc import Collection, Mapping

from torch import Tensor

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.surgery.load import Converted
from v2w_convert.world.experts import LevelRange


def experts_to_train(model: Converted, settings: FinetuneSettings) -> dict[str, Converted]:
    """The denoisers that the settings say, by name.

    Raises:
        V2WError: One of two is asked for, and there is one.
    """
    experts, wanted = model.experts, settings.expert
    if wanted == "both":
        return experts
    if wanted not in experts:
        raise V2WError(f"finetune the {wanted}-noise expert", "the model has one denoiser", "no --expert")
    return {wanted: experts[wanted]}


def level_range(settings: FinetuneSettings, boundary: float | None) -> LevelRange | None:
    """The noise levels of the one expert that is trained; None where all are."""
    return (
        None
        if boundary is None or settings.expert == "both"
        else LevelRange(boundary, settings.expert == "high")
    )


def stored_weights(trained: Mapping[str, Converted]) -> dict[str, TensorInfo]:
    """Where the weights of these denoisers lie, by their names in a world's `base`."""
    alone = len(trained) == 1
    return {
        name if alone else f"{expert}.{name}": info
        for expert, model in trained.items()
        for name, info in model.source.tensors.items()
    }


def by_expert(values: dict[str, Tensor], trained: Collection[str]) -> dict[str, dict[str, Tensor]]:
    """Weights of a world's `base`, for each denoiser by the names in its own base."""
    if len(trained) == 1:
        return dict.fromkeys(trained, values)
    return {
        expert: {
            name[len(expert) + 1 :]: value for name, value in values.items() if name.startswith(f"{expert}.")
        }
        for expert in trained
    }
