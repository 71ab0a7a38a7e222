"""What every kind of noise can do."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.noise.predictions import split_output, target_of, weighted_sum, wide
from v2w_convert.noise.sampler import Sampler

if TYPE_CHECKING:
    from v2w_convert.noise.spec import NoiseSpec

SOME_TOKENS = 1024  # a size of clips, to try a scheduler that shifts its levels by it


class Noise(ABC):
    """One kind of noise.

    Shapes: frames are (b t c h w), levels (b t).

    Attributes:
        spec: What it is built from.
        max_level: The level at which nothing of the frame is left to see.
        history_level: The level at which history is given to the model where nothing else is said: the cleanest that
            training visits.
        data: The frames' standard deviation, as EDM's formulas have it.
    """

    max_level: float
    history_level: float = 0.0
    data: float = 1.0

    def __init__(self, spec: "NoiseSpec"):
        self.spec = spec

    @abstractmethod
    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, both of the level's shape (b t) and of its floating dtype."""

    @abstractmethod
    def timestep(self, level: Tensor) -> Tensor:
        """The number (b t) that the base receives for the level."""

    @abstractmethod
    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        """Random levels as in training, float32 on the CPU."""

    def level_at(self, share: Tensor) -> Tensor:
        """The level, of any shape, that is this share of noise, from 0 (clean) to 1 (nothing else)."""
        return share * self.max_level

    def share_of(self, level: Tensor) -> Tensor:
        """The share of noise that a level, of any shape, is: what `level_at` was given."""
        return level / self.max_level

    @property
    def training_shift(self) -> float | None:
        """s of `s u / (1 + (s - 1) u)`, by which the scheduler shifts a rollout's shares of noise; None: unknown, or none."""
        return None

    @abstractmethod
    def inference_levels(self, steps: int, tokens: int | None = None) -> Tensor:
        """The levels of a rollout (steps + 1,), falling, float32, as the family's own pipeline has them.

        The last one is the result's: 0, or the smallest level that the scheduler samples.

        Args:
            steps: Denoising steps.
            tokens: Latent tokens of a clip, for schedulers that shift the levels by it.

        Raises:
            V2WError: The scheduler needs `tokens`, or has no levels of so few steps.
        """

    def check_sampling(
        self, steps: int, context_noise: float | None = None, history_guidance_noise: float | None = None
    ) -> None:
        """Check that a rollout can be sampled so, before a model is loaded.

        Args:
            steps: Denoising steps.
            context_noise: The level that history is given; None: what this noise says.
            history_guidance_noise: The level of the history that guidance leads away from; None: the largest.

        Raises:
            V2WError: There are more steps than training timesteps, or too few for this schedule, or the level is beyond the
                largest.
        """
        timesteps = self.spec.scheduler.get("num_train_timesteps", 1000)
        if steps > timesteps:
            raise V2WError(
                f"denoise in {steps} steps", f"the schedule has {timesteps} timesteps", "fewer steps"
            )
        self.inference_levels(steps, SOME_TOKENS)
        found = f"the largest noise level is {self.max_level:g}"
        if context_noise is not None and context_noise > self.max_level:
            raise V2WError(
                f"give history at the noise level {context_noise:g}", found, "a smaller level, such as 0"
            )
        if history_guidance_noise is not None and history_guidance_noise > self.max_level:
            asked = f"lead away from a history at the noise level {history_guidance_noise:g}"
            raise V2WError(asked, found, f"{self.max_level:g}, or less")

    def sampler(self, steps: int, tokens: int | None = None) -> Sampler:
        """The checkpoint's own solver, for one block; arguments as for `inference_levels`."""
        return Sampler(self, self.inference_levels(steps, tokens))

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """`clean` with `noise` added."""
        return weighted_sum(self.alpha_sigma(wide(level, clean)), (clean, noise))

    def model_input(self, noisy: Tensor, level: Tensor) -> Tensor:
        """What the base receives in place of the noisy frames."""
        return noisy

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the base should predict."""
        alpha, sigma = self.alpha_sigma(wide(level, clean))
        return target_of(self.spec.prediction, clean, noise, alpha, sigma, self.data)

    def to_clean_and_noise(self, output: Tensor, noisy: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The clean frames and the noise that the base's `output` says `noisy` is made of."""
        alpha, sigma = self.alpha_sigma(wide(level, noisy))
        return split_output(self.spec.prediction, output, noisy, alpha, sigma, self.data)
