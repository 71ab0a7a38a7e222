"""Faults of a world's noise: signs, shifts, tables, scales, times."""

import copy
from typing import Any

import torch
from torch import Tensor

from v2w_convert.noise import Noise, Sampler
from v2w_convert.world.model import World


def _changed(world: World, **methods: Any) -> None:
    world.noise = copy.copy(world.noise)
    world.noise.__class__ = type("BrokenNoise", (type(world.noise),), methods)


def predicts_the_opposite(world: World) -> None:
    """Take the base to predict the opposite, in training and in rollouts alike."""
    noise = type(world.noise)
    _changed(
        world,
        target=lambda self, *frames: -noise.target(self, *frames),
        to_clean_and_noise=lambda self, output, *frames: noise.to_clean_and_noise(self, -output, *frames),
    )


def splits_the_opposite(world: World) -> None:
    split = type(world.noise).to_clean_and_noise
    _changed(world, to_clean_and_noise=lambda self, output, *frames: split(self, -output, *frames))


def _tells(world: World, change: Any) -> None:
    timestep = type(world.noise).timestep
    _changed(world, timestep=lambda self, level: change(timestep(self, level)))


def tells_time_backwards(world: World) -> None:
    _tells(world, lambda told: 999 - told)


def tells_another_unit(world: World) -> None:
    """Tell the share of all timesteps in place of the timestep."""
    _tells(world, lambda told: told / 1000)


def tells_one_step_late(world: World) -> None:
    _tells(world, lambda told: told - 1)


def _levels(world: World, change: Any) -> None:
    levels = type(world.noise).inference_levels
    _changed(world, inference_levels=lambda self, *given: change(levels(self, *given)))


def levels_rise(world: World) -> None:
    _levels(world, lambda levels: levels.flip(0))


def levels_end_in_noise(world: World) -> None:
    _levels(world, lambda levels: torch.cat([levels[:-1], levels[-3:-2]]))


def levels_without_shift(world: World) -> None:
    """Sample levels as a scheduler without `shift`, `flow_shift` or dynamic shifting has them."""
    plain = {"shift": 1.0, "flow_shift": 1.0, "use_dynamic_shifting": False, "shift_terminal": None}
    scheduler = world.noise.scheduler  # type: ignore[attr-defined]
    known = {key: value for key, value in plain.items() if key in scheduler.config}
    _changed(world)
    world.noise.scheduler = type(scheduler).from_config(scheduler.config, **known)  # type: ignore[attr-defined]


def another_table(world: World) -> None:
    """Take the betas for those of a cosine table."""
    scheduler = world.noise.scheduler  # type: ignore[attr-defined]
    other = type(scheduler).from_config(scheduler.config, beta_schedule="squaredcos_cap_v2")
    _changed(world)
    world.noise._alphas_cumprod = other.alphas_cumprod.double()  # type: ignore[attr-defined]


def _adds(world: World, change: Any) -> None:
    add = type(world.noise).add_noise
    _changed(world, add_noise=lambda self, clean, noise, level: add(self, *change(clean, noise), level))


def noise_of_another_scale(world: World) -> None:
    _adds(world, lambda clean, noise: (clean, 1.02 * noise))


def swaps_frame_and_noise(world: World) -> None:
    _adds(world, lambda clean, noise: (noise, clean))


def input_of_another_scale(world: World) -> None:
    given = type(world.noise).model_input
    _changed(world, model_input=lambda self, *frames: 0.5 * given(self, *frames))


def steps_along_a_line(world: World) -> None:
    """Step by Euler where the checkpoint ships a multistep solver."""
    _changed(world, sampler=lambda self, *given: Sampler(self, self.inference_levels(*given)))


def _steps(world: World, step: Any) -> None:
    make = type(world.noise).sampler

    def sampler(self: Noise, *given: Any) -> Sampler:
        made = make(self, *given)
        made.__class__ = type("BrokenSampler", (type(made),), {"step": step(type(made).step)})
        return made

    _changed(world, sampler=sampler)


def steps_too_far(world: World) -> None:
    """Come out one level below the next one."""

    def wrong(step: Any) -> Any:
        def further(self: Any, output: Tensor, noisy: Tensor, i: int) -> Tensor:
            returned = self.line.returned
            following = returned[min(i + 1, len(returned) - 1)]
            object.__setattr__(self.line, "returned", [*returned[:i], following, *returned[i + 1 :]])
            found: Tensor = step(self, output, noisy, i)
            object.__setattr__(self.line, "returned", returned)
            return found

        return further

    _steps(world, wrong)


def remembers_nothing(world: World) -> None:
    """Forget the earlier outputs before every step."""

    def wrong(step: Any) -> Any:
        def forgetful(self: Any, output: Tensor, noisy: Tensor, i: int) -> Tensor:
            self.scheduler.lower_order_nums = 0
            found: Tensor = step(self, output, noisy, i)
            return found

        return forgetful

    _steps(world, wrong)
