"""Does a plan have an operation for every module through which frames of its family mix?"""

from typing import Any

import torch
from torch import nn

from v2w_convert.errors import V2WError, one_line
from v2w_convert.expression import evaluate_int
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.plan.call import call_base, null_condition, per_frame_inputs
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.match import match_operations
from v2w_convert.plan.probe import MixingSite, mixing_sites, randomize_zero_init
from v2w_convert.plan.resolve import check_names

TINY = 50_000_000  # parameters in the configuration for the probe


def uncovered_sites(plan: Plan) -> list[MixingSite]:
    """Mixing sites of the family (on the plan's tiny configuration) for which the plan has no operation."""
    model, config = _tiny(plan)
    only = plan.call.latents.clip_length
    packed = evaluate_int(plan.call.latents.frames_per_token, config)
    packs = 5 if only is None else evaluate_int(only, config)
    c, h, w = evaluate_int(plan.call.latents.channels, config), 8, 16
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, packs * packed, c, h, w, generator=generator)
    conditions = {
        name: null_condition(plan.call, name, config, h, w, tokens=3)[None]
        for name in plan.call.active_conditions(config)
    }
    level = torch.tensor([0.3])
    frames, apart = per_frame_inputs(plan.call, config, latents, conditions)
    frames = frames.unflatten(1, (packs, packed))

    def call(x: torch.Tensor) -> torch.Tensor:
        own, given = apart(x.flatten(1, 2))
        return call_base(model, plan.call, config, own, level, given).unflatten(1, (packs, packed))

    try:
        call(frames)
    except Exception as error:  # whatever a forward makes of arguments that it was not meant to get
        raise V2WError(
            f"call a {plan.base} as the plan {plan.name} says", one_line(error), "`call` in the plan"
        ) from None
    accounted, _ = match_operations([operation.resolve(config) for operation in plan.operations], model)
    return [site for site in mixing_sites(model, call, frames, frame_axis=1) if site.name not in accounted]


def _tiny(plan: Plan) -> tuple[nn.Module, dict[str, Any]]:
    """The plan's tiny configuration of its base, with random weights, woken; and its config, complete."""
    asked = f"build the tiny {plan.base} of the plan {plan.name}"
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in build_model(plan.base, plan.tiny).parameters())
        if size > TINY:
            raise ValueError(f"{size} parameters, over the limit of {TINY}")
        torch_state = torch.random.get_rng_state()
        torch.manual_seed(0)
        model = build_model(plan.base, plan.tiny).eval()
        torch.random.set_rng_state(torch_state)
        config = complete_config(model)
        operations = [operation.resolve(config) for operation in plan.operations]
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(asked, one_line(error), "`tiny` in the plan") from None
    if faults := check_names(plan, operations, model, config):
        raise V2WError(asked, faults, "`tiny` in the plan")
    randomize_zero_init(model)
    return model, config


def require_coverage(plan: Plan) -> None:
    """Raises V2WError if frames mix at a module that the plan does not mention."""
    missing = uncovered_sites(plan)
    if missing:
        raise V2WError(
            f"apply the plan {plan.name}",
            [
                f"frames mix in {site.name} ({site.module}), for which the plan has no operation"
                for site in missing
            ],
            "an operation for it; frame_norm where statistics may become per frame",
        )
