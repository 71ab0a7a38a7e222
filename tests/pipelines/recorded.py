"""What a pipeline of diffusers does with a denoiser: every call of it, and every step of its scheduler."""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from tests.pipelines.stages.stage import Stage


@dataclass
class Step:
    """One step of a pipeline.

    Attributes:
        denoiser: Which of the pipeline's denoisers was called.
        arguments: Of its forward, by name; those left to their defaults are absent.
        output: What it returned.
        next: The latents that the scheduler made of that, as the pipeline lays them out.
    """

    denoiser: str
    arguments: dict[str, Any]
    output: Tensor
    next: Tensor = field(default_factory=lambda: torch.empty(0))


def copied(value: Any) -> Any:
    """The value as it is now: pipelines write into their own latents."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return value


@contextmanager
def calls_of(model: nn.Module, name: str, steps: list[Step]) -> Iterator[None]:
    """Within it, every call of `model` is appended to `steps`."""
    forward = model.forward
    signature = inspect.signature(forward)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        given.pop("return_dict", None)
        arguments = {key: copied(value) for key, value in given.items()}
        output = forward(*args, **kwargs)
        first = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        steps.append(Step(name, arguments, copied(first)))
        return output

    model.forward = recorded  # type: ignore[method-assign]
    try:
        yield
    finally:
        model.forward = forward  # type: ignore[method-assign]


@contextmanager
def steps_of(scheduler: Any, steps: list[Step]) -> Iterator[None]:
    """Within it, the last of `steps` receives what the scheduler returns."""
    step = scheduler.step

    def recorded(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = step(output, timestep, sample, *args, **kwargs)
        steps[-1].next = copied(result[0] if isinstance(result, tuple) else result.prev_sample)
        return result

    scheduler.step = recorded
    try:
        yield
    finally:
        scheduler.step = step


@contextmanager
def latents_at_their_mean() -> Iterator[None]:
    """Within it, autoencoders give a picture's mean latent, where pipelines draw one at random."""
    sample = DiagonalGaussianDistribution.sample
    DiagonalGaussianDistribution.sample = lambda self, generator=None: self.mean  # type: ignore[method-assign]
    try:
        yield
    finally:
        DiagonalGaussianDistribution.sample = sample  # type: ignore[method-assign]


@torch.no_grad()
def record(stage: Stage, denoisers: dict[str, nn.Module]) -> list[Step]:
    """Run a pipeline; one step for every call of a denoiser."""
    steps: list[Step] = []
    stage.pipeline.set_progress_bar_config(disable=True)
    with ExitStack() as stack:
        stack.enter_context(latents_at_their_mean())
        if not stage.copies_scheduler:
            stack.enter_context(steps_of(stage.pipeline.scheduler, steps))
        for name, model in denoisers.items():
            stack.enter_context(calls_of(model, name, steps))
        stage.pipeline(**stage.arguments)
    return steps
