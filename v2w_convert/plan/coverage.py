"""Does a plan have an operation for every module through which frames of its family mix?"""

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError, one_line
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.operations import Operation
from v2w_convert.plan.call import ResolvedCall, call_base, per_frame_inputs, resolve_call
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.match import match_operations
from v2w_convert.plan.probe import MixingSite, mixing_sites, randomize_zero_init
from v2w_convert.plan.resolve import unknown_tensors

MAX_PARAMETERS = 50_000_000  # in the configuration for the probe


def uncovered_sites(plan: Plan) -> list[MixingSite]:
    """Mixing sites of the family (on the plan's tiny configuration) for which the plan has no operation.

    Raises:
        V2WError: The tiny configuration cannot be built or called as the plan says.
    """
    model, call, operations = _tiny(plan)
    packed = call.frames_per_token
    tokens = 5 if call.clip_length is None else call.clip_length
    h, w = 8, 16
    if plan.tiny.get("use_learned_positional_embeddings"):  # the only size that it takes (CogVideoX 5b I2V)
        h, w = plan.tiny["sample_height"], plan.tiny["sample_width"]
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, tokens * packed, call.channels, h, w, generator=generator)
    conditions = {name: condition.null(h, w, tokens=3)[None] for name, condition in call.conditions.items()}
    timestep = torch.tensor([0.3])
    frames, split = per_frame_inputs(call, latents, conditions)
    frames = frames.unflatten(1, (tokens, packed))

    def run(x: Tensor) -> Tensor:
        own, given = split(x.flatten(1, 2))
        output: Tensor = call_base(model, call, own, timestep, given).unflatten(1, (tokens, packed))
        return output

    try:
        run(frames)
    except Exception as error:  # whatever a forward makes of arguments that it was not meant to get
        raise V2WError(
            f"call a {plan.base} as the plan {plan.name} says", one_line(error), "`call` in the plan"
        ) from None
    accounted, _ = match_operations(operations, model)
    return [site for site in mixing_sites(model, run, frames, frame_axis=1) if site.name not in accounted]


def _tiny(plan: Plan) -> tuple[nn.Module, ResolvedCall, list[Operation]]:
    """The plan's tiny configuration of its base, with random weights, none of them zero; its call and operations."""
    asked = f"build the tiny {plan.base} of the plan {plan.name}"
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in build_model(plan.base, plan.tiny).parameters())
        if size > MAX_PARAMETERS:
            raise ValueError(f"{size} parameters, over the limit of {MAX_PARAMETERS}")
        torch_state = torch.random.get_rng_state()
        torch.manual_seed(0)
        model = build_model(plan.base, plan.tiny).eval()
        torch.random.set_rng_state(torch_state)
        config = complete_config(model)
        operations = [operation.resolve(config) for operation in plan.operations]
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(asked, one_line(error), "`tiny` in the plan") from None
    try:
        call = resolve_call(plan.call, config)
    except ValueError as error:
        raise V2WError(asked, [str(fault) for fault in error.args], "`tiny` in the plan") from None
    if faults := [*unknown_tensors(operations, model), *call.faults()]:
        raise V2WError(asked, faults, "`tiny` in the plan")
    randomize_zero_init(model)
    return model, call, operations


def require_coverage(plan: Plan) -> None:
    """Check that the plan mentions every module through which frames mix.

    Raises:
        V2WError: It does not; or as `uncovered_sites` does.
    """
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
