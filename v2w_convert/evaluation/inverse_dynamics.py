"""A small classifier that names the action between two frames, to measure whether generated frames follow actions.

It is trained on recorded frames. Its accuracy on generated pairs lies between `majority` (actions ignored)
and its accuracy on real pairs that it was not trained on (actions followed as well as it can tell).

A pair is (2 3 height width), float in [0, 1], the earlier frame first.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from v2w_convert.errors import V2WError

SIDE = 32  # motion is visible at this size; fine detail, which a generator may blur, is not
WIDTH = 16
BATCH = 64
LEARNING_RATE = 3e-3


class InverseDynamics(nn.Module):
    """Maps pairs of frames (n 2 3 height width) of any size to logits (n classes) of the action between them."""

    def __init__(self, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(9, WIDTH, stride=1),
            *_convolution(WIDTH, 2 * WIDTH, stride=2),
            *_convolution(2 * WIDTH, 4 * WIDTH, stride=2),
            *_convolution(4 * WIDTH, 4 * WIDTH, stride=2),
            nn.Flatten(),
            nn.Linear(4 * WIDTH * (SIDE // 8) ** 2, classes),
        )

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (n classes) of `pairs` (n 2 3 height width)."""
        before, after = _downscaled(pairs).unbind(1)
        # Changes between frames are small beside the frames; scaled to a similar size they are learned sooner.
        logits: Tensor = self.layers(torch.cat([before - 0.5, after - 0.5, 4 * (after - before)], 1))
        return logits


def train_classifier(pairs: Tensor, actions: Tensor, classes: int, seed: int, steps: int = 600) -> nn.Module:
    """Train an `InverseDynamics`.

    Deterministic given the seed, on one machine with one number of threads. Global random generators are
    neither read nor changed.

    Args:
        pairs: Pairs of frames (n 2 3 height width).
        actions: The action of each pair (n,) int64 in [0, classes).
        classes: How many actions there are.
        seed: The seed.
        steps: Optimizer steps.

    Raises:
        V2WError: There is no pair, or not one action in range per pair.
    """
    _check("train an action classifier", pairs, actions, classes)
    generator = torch.Generator().manual_seed(seed)
    model = _initialised(classes, generator).to(pairs.device)
    pairs = torch.cat([_downscaled(chunk) for chunk in pairs.split(256)])
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(pairs), (BATCH,), generator=generator).to(pairs.device)
        optimizer.zero_grad()
        cross_entropy(model(pairs[chosen]), actions[chosen]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, pairs: Tensor, actions: Tensor) -> Tensor:
    """Where the model names the right action.

    Args:
        model: A trained classifier.
        pairs: Pairs of frames (n 2 3 height width).
        actions: The action of each pair (n,) int64.

    Returns:
        (n,) float32: 1 where it does, else 0.

    Raises:
        V2WError: There is no pair, or not one action per pair.
    """
    _check("measure an action classifier", pairs, actions)
    guesses = torch.cat([model(chunk).argmax(1) for chunk in pairs.split(256)])
    return (guesses == actions).float()


def majority(actions: Tensor) -> float:
    """The accuracy of always naming the most frequent of `actions` (n,) int64."""
    return int(actions.bincount().max()) / len(actions)


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU()


def _initialised(classes: int, generator: torch.Generator) -> InverseDynamics:
    """A new model with weights from `generator` alone."""
    with torch.device("meta"):  # torch's own initialisation would use the global generator
        model = InverseDynamics(classes)
    model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)  # as torch initialises
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return model


def _downscaled(pairs: Tensor) -> Tensor:
    """Pairs (n 2 3 SIDE SIDE), by area; those of this size already are kept as they are."""
    small: Tensor = adaptive_avg_pool2d(pairs.flatten(0, 1), SIDE).unflatten(0, (-1, 2))
    return small


def _check(asked: str, pairs: Tensor, actions: Tensor, classes: int | None = None) -> None:
    if not len(pairs):
        raise V2WError(asked, "no pair of frames", "episodes of at least two frames")
    if actions.shape != pairs.shape[:1]:
        raise V2WError(asked, f"{len(pairs)} pairs of frames but actions of shape {tuple(actions.shape)}")
    if classes is not None and not 0 <= actions.min() <= actions.max() < classes:
        raise V2WError(asked, f"actions from {actions.min()} to {actions.max()}", f"0 to {classes - 1}")
