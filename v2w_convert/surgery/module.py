"""Surgery on a live diffusers module, without files."""

from typing import Any

from torch import nn

from v2w_convert.errors import V2WError
from v2w_convert.families.build import complete_config
from v2w_convert.plan.coverage import require_coverage
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.surgery.convert import check_actions
from v2w_convert.world.model import World


def convert_module(
    model: nn.Module,
    plan: Plan | None = None,
    *,
    action_dim: int,
    seed: int = 0,
    scheduler: Any = None,
) -> World:
    """Turn a denoiser that is in memory into a world model.

    The result equals `convert` followed by `load`, bit for bit at the stored dtype.

    Args:
        model: A diffusers model, or one of this package's families. It is changed in place and becomes
            `World.base`; its dtype and device stay.
        plan: What to change; None: the shipped plan that fits the model's class and config.
        action_dim: Numbers in one action, times the video frames that make one latent frame.
        seed: Seed of the added weights.
        scheduler: The pipeline's scheduler, or its config: it says how the model was trained to denoise.
            None: as the plan says.

    Returns:
        The world model, with null conditions.

    Raises:
        V2WError: No plan fits the model, or the plan does not cover every module that mixes frames.
    """
    class_name = type(model).__name__
    if not hasattr(model, "config"):
        plan_for(class_name)  # the reason, where the class is known
        raise V2WError(f"convert a {class_name}", "it has no config", "a diffusers model")
    config = {**complete_config(model), "_class_name": class_name}
    shipped = plan is None
    if plan is None:
        plan = plan_for(class_name, config)
    noise = None if scheduler is None else _scheduler_config(scheduler)
    resolved = resolve(plan, config, noise)
    if not shipped:  # shipped plans are tested
        require_coverage(plan)
    check_actions(resolved, action_dim)
    device = next(model.parameters()).device
    apply_surgery(resolved, model, action_dim, seed)
    return World(model, resolved, action_dim).to(device)


def _scheduler_config(scheduler: Any) -> dict[str, Any]:
    if isinstance(scheduler, dict):
        return scheduler
    return {**scheduler.config, "_class_name": type(scheduler).__name__}
