"""A world model with two denoisers, *experts*, each for a range of noise levels, as Wan 2.2 A14B has them.

The high-noise expert is asked where the timestep that the base is told is at least a share, the *boundary*, of the
number of training timesteps, and the low-noise expert below it (diffusers' pipelines/wan/pipeline_wan.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.noise import Noise
from v2w_convert.operations import ReceptiveField
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.sites import Site, State
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Stream, in_two_passes, start_stream


class ExpertsWorld(nn.Module):
    """Two world models of one plan, of which each predicts the frames whose noise level is in its range.

    It is called as a `World` is. An expert that no frame needs is not called. Where levels of both ranges meet in one
    call, both experts see all frames, and each frame's prediction is that of its own level's expert. A stream keeps a
    state for each: a committing pass calls both, whatever the level, because each reads the history in a form of its
    own.

    Attributes:
        high: The expert of the levels from the boundary on.
        low: The expert of the levels below it.
        boundary: Where the ranges meet, as a share of the training timesteps, in (0, 1].
        resolved: The plan, the same for both; paths of sites are those in one expert's base.
        noise: As of `World`; so are the two that follow.
        frames_per_block: Latent frames that are denoised at once.
        action_dim: a, numbers in an action.
    """

    def __init__(self, high: World, low: World, boundary: float):
        """Join two worlds.

        Args:
            high: The expert of the high levels.
            low: The expert of the low levels, made with the same plan for the same architecture.
            boundary: Where the ranges meet, as a share of the training timesteps.

        Raises:
            V2WError: The noise's timesteps are not in those ranges, or the two are not alike.
        """
        super().__init__()
        require_boundary(high.noise, boundary)
        if high.resolved.plan != low.resolved.plan or high.action_dim != low.action_dim:
            raise V2WError(
                "join two experts", "their plans or actions differ", "two experts of one conversion"
            )
        self.high, self.low, self.boundary = high, low, boundary
        self.resolved: ResolvedPlan = high.resolved
        self.noise: Noise = high.noise
        self.frames_per_block = high.frames_per_block
        self.action_dim = high.action_dim

    @property
    def experts(self) -> dict[str, World]:
        """Both, by name: "high" and "low"."""
        return {"high": self.high, "low": self.low}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile both experts in place, as `World.compile` does. Which one is asked is decided outside of them."""
        for expert in self.experts.values():
            expert.compile(*args, **kwargs)

    @property
    def base(self) -> nn.Module:
        """Both denoisers: names of modules and parameters are the bases' own behind "high." or "low."."""
        return nn.ModuleDict({name: expert.base for name, expert in self.experts.items()})

    @property
    def sites(self) -> dict[str, Site]:
        """The modules that operations have changed, by their path in `base`."""
        return self._joined(lambda expert: expert.sites)

    @property
    def channels(self) -> int:
        """c, channels of a frame's latent."""
        return self.high.channels

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return self.high.dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.high.device

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Which earlier blocks each site should see, by the plan; sites as in `sites`."""
        return self._joined(lambda expert: expert.receptive_fields())

    def is_high(self, noise_level: Tensor) -> Tensor:
        """For levels (b t), whether the high-noise expert has them: (b t) bool."""
        return is_high(self.noise, self.boundary, noise_level)

    def forward(self, latents: Tensor, noise_level: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The prediction for clips that begin with their first frame: arguments and result as of `World.forward`."""
        outputs = {
            name: self.experts[name](latents, noise_level, *args, **kwargs)
            for name in self._needed(noise_level)
        }
        return self._chosen(outputs, noise_level)

    def forward_streamed(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        dropped: Tensor | None = None,
        *,
        commit: bool = False,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        """The prediction for frames that come after those in `state`, and the state after them.

        Arguments and result are those of `World.forward_streamed`. Where it commits, both experts are called.
        """
        outputs, states = {}, {}
        for name in self.experts if commit else self._needed(noise_level):
            outputs[name], states[name] = self.experts[name].forward_streamed(
                _part(state, name),
                latents,
                noise_level,
                actions,
                dropped,
                commit=commit,
                **conditions,
            )
        return self._chosen(outputs, noise_level), _join(states) if commit else state

    def forward_folded(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        """As `World.forward_folded`, in two passes: one expert alone predicts the last block."""
        return in_two_passes(self, state, latents, noise_level, actions, **conditions)

    def empty_state(self, b: int, h: int, w: int, window: int | None = None) -> State:
        """The state before the first frame: both experts', as `World.empty_state` makes it."""
        return _join({name: expert.empty_state(b, h, w, window) for name, expert in self.experts.items()})

    def clip_tokens(self, h: int, w: int, window: int | None = None) -> int:
        """Latent tokens of a clip as long as the view, as `World.clip_tokens`."""
        return self.high.clip_tokens(h, w, window)

    def stream(self, b: int, h: int, w: int, **options: Any) -> Stream:
        """b rollouts of latents h × w, as `World.stream`."""
        return start_stream(self, b, h, w, **options)

    def _needed(self, noise_level: Tensor) -> list[str]:
        """Names of the experts that have some of the levels."""
        high = self.is_high(self._of_blocks(noise_level))
        return [name for name, some in (("high", high.any()), ("low", (~high).any())) if some]

    def _chosen(self, outputs: dict[str, Tensor], noise_level: Tensor) -> Tensor:
        """Each frame's prediction from the expert of its level."""
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        high = self.is_high(self._of_blocks(noise_level))
        return torch.where(high[..., None, None, None], outputs["high"], outputs["low"])

    def _of_blocks(self, noise_level: Tensor) -> Tensor:
        """The levels that count: one for a block, its first frame's. (b t)."""
        n = self.frames_per_block
        return noise_level[:, ::n].repeat_interleave(n, 1)

    def _joined(self, of: Callable[[World], dict[str, Any]]) -> dict[str, Any]:
        return {
            f"{name}.{path}": value
            for name, expert in self.experts.items()
            for path, value in of(expert).items()
        }


AnyWorld = World | ExpertsWorld
"""What a converted folder is loaded as."""


def experts_of(world: AnyWorld) -> dict[str, World]:
    """The denoisers of a world, by name: "high" and "low", or one named ""."""
    return {"": world} if isinstance(world, World) else world.experts


@dataclass(frozen=True)
class LevelRange:
    """The noise levels of one of two experts.

    Attributes:
        boundary: Where the ranges meet, as a share of the training timesteps.
        high: True for the levels from there on, False for those below.
    """

    boundary: float
    high: bool

    def contains(self, noise: Noise, noise_level: Tensor) -> Tensor:
        """Which of the levels, of any shape, it holds: bool."""
        return is_high(noise, self.boundary, noise_level) == self.high


def is_high(noise: Noise, boundary: float, noise_level: Tensor) -> Tensor:
    """For levels of any shape, whether the high-noise expert has them: bool."""
    return noise.timestep(noise_level) >= boundary * _training_timesteps(noise)


def require_boundary(noise: Noise, boundary: float) -> None:
    """Check that a clean frame is below the boundary, and that told timesteps grow with the level.

    Raises:
        V2WError: They do not: the ranges of the two experts would not be what they are meant to be.
    """
    clean, noised = noise.timestep(torch.tensor([[0.0, noise.max_level]]))[0].tolist()
    if not 0 <= clean < boundary * _training_timesteps(noise) <= noised:
        raise V2WError(
            f"use two denoisers with the boundary {boundary:g}",
            f"the {noise.spec.kind} noise tells them timesteps from {clean:g} to {noised:g} of "
            f"{_training_timesteps(noise)}",
            "one of the two as a model of its own",
        )


def _training_timesteps(noise: Noise) -> int:
    count: int = noise.spec.scheduler.get("num_train_timesteps", 1000)  # diffusers' default
    return count


def _part(state: State, expert: str) -> State:
    """One expert's state."""
    prefix = f"{expert}."
    sites = {name.removeprefix(prefix): kept for name, kept in state.sites.items() if name.startswith(prefix)}
    return State(state.cursor, sites)


def _join(states: dict[str, State]) -> State:
    """Both experts' states, which have seen the same frames."""
    sites = {
        f"{expert}.{name}": kept for expert, state in states.items() for name, kept in state.sites.items()
    }
    return State(next(iter(states.values())).cursor, sites)
