"""Low-rank updates of linear layers, by peft (Hu et al., arXiv 2106.09685): W x + scale · B (A x).

While they are trained, peft's layers stand in place of the base's; the base's weights do not change. What is saved is an
adapter as peft writes it (`checkpoint.adapter`).
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.adapter import Update, scale_of
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.batches import generator
from v2w_convert.finetuning.memory_settings import LoraTargets, MemorySettings
from v2w_convert.operations.action import ACTION_MODULE
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.sites import Site
from v2w_convert.world.experts import AnyWorld, experts_of
from v2w_convert.world.model import World

NAME = "default"  # peft's, of the adapter
DOWN, UP = f".lora_A.{NAME}.weight", f".lora_B.{NAME}.weight"


def require_peft() -> None:
    """Check that peft is there.

    Raises:
        V2WError: It is not.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise V2WError(
            "train low-rank updates",
            f"peft is not installed ({error})",
            "pip install 'v2w-convert[lora]', or --train temporal",
        ) from None


def target_names(resolved: ResolvedPlan, base: nn.Module, targets: LoraTargets) -> list[str]:
    """Paths of the linear layers that get an update: all but those of the action layers, or those within changed modules.

    Raises:
        V2WError: There are none.
    """
    within = tuple(f"{site}." for site, operation in resolved.sites.items() if not operation.embeds_actions)
    names = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear)
        and not isinstance(module, Site)
        and ACTION_MODULE not in name.split(".")
        and (targets == "all" or name.startswith(within))
    ]
    if not names:
        raise V2WError("train low-rank updates", f"no linear layer among {targets}", "--train temporal")
    return names


def add_updates(world: AnyWorld, settings: MemorySettings, seed: int) -> None:
    """Put an update on every target, in place: float32, trained, of no effect yet.

    Args:
        world: The world.
        settings: Rank, scale and targets.
        seed: Of the first values of A, which depend on the layers' names besides, and on nothing else.
    """
    for expert, part in experts_of(world).items():
        inject_updates(part, settings)
        for name, parameter in part.base.named_parameters():
            if name.endswith((DOWN, UP)):
                parameter.data = _first_value(parameter, name, f"{seed}/lora/{expert}").to(parameter.device)


def inject_updates(world: World, settings: MemorySettings) -> None:
    """Put peft's layers in the place of one denoiser's targets, on any device. What was trained before is trained, too."""
    from peft import LoraConfig, inject_adapter_in_model

    names = target_names(world.resolved, world.base, settings.lora_targets)
    trained = [p for p in world.base.parameters() if p.requires_grad]
    alpha: Any = settings.lora_alpha or settings.lora_rank  # peft says int, and takes any number
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=alpha,
        target_modules="|".join(
            map(re.escape, names)
        ),  # in a list each would stand for all names that end with it
        bias="none",
    )
    with torch.random.fork_rng([]):
        inject_adapter_in_model(config, world.base, NAME)
    for name, parameter in world.base.named_parameters():
        if name.endswith((DOWN, UP)):
            parameter.data = parameter.data.float()
    for parameter in trained:  # peft freezes all that is not its own
        parameter.requires_grad_(True)


def updates_in(values: dict[str, Tensor], settings: MemorySettings) -> dict[str, Update]:
    """The updates among trained tensors, by the paths of their layers."""
    alpha = settings.lora_alpha or settings.lora_rank
    return {
        name.removesuffix(DOWN): Update(
            value, values[name.removesuffix(DOWN) + UP], scale_of(settings.lora_rank, alpha)
        )
        for name, value in values.items()
        if name.endswith(DOWN)
    }


def _first_value(like: Tensor, name: str, seed: str) -> Tensor:
    """B begins at zero, A uniform in ± 1 / sqrt(inputs), as in peft."""
    if name.endswith(UP):
        return torch.zeros(like.shape)
    bound = like.shape[1] ** -0.5
    return torch.rand(like.shape, generator=generator(seed, name)).mul_(2 * bound).sub_(bound)
