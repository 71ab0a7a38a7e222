"""Which parameters a run trains, by their names in the base."""

from torch import nn

from v2w_convert.errors import V2WError
from v2w_convert.finetuning.memory_settings import Trained
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.world.experts import AnyWorld, experts_of


def choose_parameters(world: AnyWorld, train: Trained) -> None:
    """Let those parameters require gradients that `train` names, and no other.

    Of `lora` these are the action layers; the updates are parameters of their own (`lora.add_updates`).

    Raises:
        V2WError: There are none.
    """
    for part in experts_of(world).values():
        wanted = trained_names(part.resolved, part.base, train)
        for name, parameter in part.base.named_parameters():
            parameter.requires_grad_(name in wanted)


def trained_names(resolved: ResolvedPlan, base: nn.Module, train: Trained) -> set[str]:
    """Names of one denoiser's parameters that are trained.

    Args:
        resolved: Its plan.
        base: The denoiser, its operations installed, on any device.
        train: As in the settings.

    Raises:
        V2WError: There are none.
    """
    names = {name for name, _ in base.named_parameters()}
    if train == "all":
        return names
    chosen: set[str] = set()
    for site, operation in resolved.sites.items():
        chosen |= operation.action_parameters(site, base)
        if train == "temporal" and not operation.embeds_actions:
            chosen |= {name for name in names if name.startswith(f"{site}.")}
    if not chosen:
        raise V2WError(f"train {train}", "the model has no action layer", "--train all")
    return chosen
