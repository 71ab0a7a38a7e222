"""A tiny model of a class in float64, and recordings of its runs."""

from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.attention import Arguments
from v2w_convert.draft.find_call import FoundCall, frames_of, random_inputs, run_call
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.plan.call import per_frame_inputs, resolve_call
from v2w_convert.plan.probe import mixing_sites, randomize_zero_init, record


def build_random(class_name: str, config: dict[str, Any]) -> nn.Module:
    """A model with random weights, none of them zero-initialised, always the same ones."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = build_model(class_name, config).eval()
    torch.random.set_rng_state(state)
    randomize_zero_init(model)
    return model


def to_float64(model: nn.Module) -> nn.Module:
    """The model, cast in place. (diffusers' own `to` warns.)"""
    return nn.Module.to(model, torch.float64)


class RecordedModel:
    """A tiny model that was run, and probed for mixing sites.

    Attributes:
        class_name: Its class.
        tiny: The configuration it was built from.
        config: The same with all defaults.
        found: How it is called.
        model: The model, float64.
        t: Frames of the clips it was run on.
        reference: A recording of one run.
        other_level: A recording with another noise level.
        other_inputs: A recording with everything changed but the noise level.
        sites: The modules through which frames mix.
        arguments: Mixing site -> what it was called with in the reference.
    """

    def __init__(self, class_name: str, tiny: dict[str, Any], found: FoundCall):
        self.class_name, self.tiny, self.found = class_name, tiny, found
        self.model = to_float64(build_random(class_name, tiny))
        self.config = complete_config(self.model)
        self.t = frames_of(found.call, self.config)
        first, other = self._inputs(0), self._inputs(1)
        level = "noise_level"
        self.reference, _ = record(self.model, lambda: self.run(first))
        self.other_level, _ = record(self.model, lambda: self.run(first | {level: other[level]}))
        self.other_inputs, _ = record(self.model, lambda: self.run(other | {level: first[level]}))
        one = {name: x[:1] for name, x in first.items()}
        frames, split = per_frame_inputs(resolve_call(found.call, self.config), one["latents"], one)

        def call(x: Tensor) -> Tensor:
            latents, conditions = split(x)
            return self.run(conditions | {"latents": latents})

        self.sites = mixing_sites(self.model, call, frames, frame_axis=1)
        self.arguments = self._record_arguments(first)

    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        """The model's output (b t c h w)."""
        return run_call(self.model, self.config, self.found.call, inputs)

    def _inputs(self, seed: int) -> dict[str, Tensor]:
        inputs = random_inputs(self.found.call, self.config, self.t, seed)
        return {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}

    def _record_arguments(self, inputs: dict[str, Tensor]) -> dict[str, Arguments]:
        recorded: dict[str, Arguments] = {}
        handles = []
        for site in self.sites:

            def keep(
                _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = site.name
            ) -> None:
                recorded.setdefault(name, (args, kwargs))

            if site.name:
                module = self.model.get_submodule(site.name)
                handles.append(module.register_forward_pre_hook(keep, with_kwargs=True))
        self.run(inputs)
        for handle in handles:
            handle.remove()
        return recorded
