"""A tiny model of the class in float64, and what is seen of it when it is called."""

from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.attention import Arguments
from v2w_convert.draft.forward import Found, frames_of, inputs_of, run
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.plan.call import per_frame_inputs, resolve_call
from v2w_convert.plan.probe import mixing_sites, randomize_zero_init, record


def built(class_name: str, config: dict[str, Any]) -> nn.Module:
    """With woken weights, always the same ones."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = build_model(class_name, config).eval()
    torch.random.set_rng_state(state)
    randomize_zero_init(model)
    return model


class Watched:
    """same    what every module saw and gave in one run
    level   with another noise level
    rest    with everything but the noise level changed
    sites   the modules through which frames mix
    given   what each of them was called with
    """

    def __init__(self, class_name: str, tiny: dict[str, Any], found: Found):
        self.class_name, self.tiny, self.found = class_name, tiny, found
        self.model = nn.Module.to(built(class_name, tiny), torch.float64)  # diffusers' own `to` warns
        self.config = complete_config(self.model)
        self.t = frames_of(found.call, self.config)
        first, other = self._inputs(0), self._inputs(1)
        self.same, _ = record(self.model, lambda: self.run(first))
        self.level, _ = record(self.model, lambda: self.run(first | {"level": other["level"]}))
        self.rest, _ = record(self.model, lambda: self.run(other | {"level": first["level"]}))
        one = {name: x[:1] for name, x in first.items()}
        frames, apart = per_frame_inputs(resolve_call(found.call, self.config), one["latents"], one)

        def call(x: Tensor) -> Tensor:
            latents, given = apart(x)
            return self.run(given | {"latents": latents})

        self.sites = mixing_sites(self.model, call, frames, frame_axis=1)
        self.given = self._given(first)

    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        return run(self.model, self.config, self.found.call, inputs)

    def _inputs(self, seed: int) -> dict[str, Tensor]:
        inputs = inputs_of(self.found.call, self.config, self.t, seed)
        return {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}

    def _given(self, inputs: dict[str, Tensor]) -> dict[str, Arguments]:
        given: dict[str, Arguments] = {}
        handles = []
        for site in self.sites:

            def note(_: nn.Module, args: Any, kwargs: Any, name: str = site.name) -> None:
                given.setdefault(name, (args, kwargs))

            if site.name:
                module = self.model.get_submodule(site.name)
                handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
        self.run(inputs)
        for handle in handles:
            handle.remove()
        return given
