"""Which action led from one frame to the next? A small classifier, trained on real frames, that judges
whether generated frames follow their actions.

n pairs of frames. Shape of a pair: (2 3 height width), float in [0, 1], the earlier frame first.
Use: its accuracy on generated pairs lies between `majority` (actions ignored) and its accuracy on real
pairs that it was not trained on (actions followed as well as this classifier can tell).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from v2w_convert.errors import V2WError

SIDE = 32  # motion survives at this size, detail that a generator blurs does not: it must not be relied on
WIDTH = 16
BATCH = 64
LEARNING_RATE = 3e-3


class InverseDynamics(nn.Module):
    """Logits (n classes) of the action between the frames of `pairs` (n 2 3 height width), any size."""

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
        before, after = _shrunk(pairs).unbind(1)
        # Changes between frames are small beside the frames; scaled to a like size they are learned sooner.
        return self.layers(torch.cat([before - 0.5, after - 0.5, 4 * (after - before)], 1))


def train_classifier(pairs: Tensor, actions: Tensor, classes: int, seed: int, steps: int = 600) -> nn.Module:
    """An InverseDynamics fitted to `pairs` (n 2 3 height width) and `actions` (n,) int64 in [0, classes).

    Deterministic given the seed, on one machine with one number of threads; the global generators are
    neither read nor moved. Raises V2WError if there is no pair, or not one action in range per pair.
    """
    _check("train an action classifier", pairs, actions, classes)
    generator = torch.Generator().manual_seed(seed)
    model = _initialised(classes, generator).to(pairs.device)
    pairs = torch.cat([_shrunk(part) for part in pairs.split(256)])
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
    """(n,) float32: 1 where the model names the action (n,) of the pair (n 2 3 height width), else 0.

    Raises V2WError if there is no pair, or not one action per pair.
    """
    _check("measure an action classifier", pairs, actions)
    guesses = torch.cat([model(part).argmax(1) for part in pairs.split(256)])
    return (guesses == actions).float()


def majority(actions: Tensor) -> float:
    """The accuracy of always naming the commonest of `actions` (n,) int64."""
    return actions.bincount().max().item() / len(actions)


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU()


def _initialised(classes: int, generator: torch.Generator) -> InverseDynamics:
    with torch.device("meta"):  # torch's own initialisation would draw from the global generator
        model = InverseDynamics(classes)
    model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)  # as torch initialises
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return model


def _shrunk(pairs: Tensor) -> Tensor:
    """Pairs (n 2 3 SIDE SIDE), by area; those of this size already are kept as they are."""
    return adaptive_avg_pool2d(pairs.flatten(0, 1), SIDE).unflatten(0, (-1, 2))


def _check(asked: str, pairs: Tensor, actions: Tensor, classes: int | None = None) -> None:
    if not len(pairs):
        raise V2WError(asked, "no pair of frames", "episodes of at least two frames")
    if actions.shape != pairs.shape[:1]:
        raise V2WError(asked, f"{len(pairs)} pairs of frames but actions of shape {tuple(actions.shape)}")
    if classes is not None and not 0 <= actions.min() <= actions.max() < classes:
        raise V2WError(asked, f"actions from {actions.min()} to {actions.max()}", f"0 to {classes - 1}")
