"""A small network that reads the action between two frames, to measure whether generated frames follow actions.

It is trained on recorded frames. Its score on generated pairs lies between that of frames that ignore actions and its score
on real pairs that it was not trained on (actions followed as well as it can tell).

A pair is (2 3 height width), float in [0, 1], the earlier frame first. An action's parts are read side by side: a choice
is classified, a key is told pressed or not, an amount is regressed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits, cross_entropy

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.action_parts import MeasuredPart

SIDE = 32  # motion is visible at this size; fine detail, which a generator may blur, is not
WIDTH = 16
BATCH = 64
LEARNING_RATE = 3e-3
SUMS = 4  # numbers that a score is made of
MEASURES = {"discrete": "accuracy", "multi_binary": "balanced accuracy", "continuous": "r2"}


class InverseDynamics(nn.Module):
    """Maps pairs of frames (n 2 3 height width) of any size to the action between them (n a).

    Choices and keys are logits. Amounts are in units of `deviation` around `mean`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, action_dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(9, WIDTH, stride=1),
            *_convolution(WIDTH, 2 * WIDTH, stride=2),
            *_convolution(2 * WIDTH, 4 * WIDTH, stride=2),
            *_convolution(4 * WIDTH, 4 * WIDTH, stride=2),
            nn.Flatten(),
            nn.Linear(4 * WIDTH * (SIDE // 8) ** 2, action_dim),
        )
        self.register_buffer("mean", torch.zeros(action_dim))
        self.register_buffer("deviation", torch.ones(action_dim))

    def forward(self, pairs: Tensor) -> Tensor:
        """Outputs (n a) of `pairs` (n 2 3 height width)."""
        before, after = downscaled(pairs).unbind(1)
        # Changes between frames are small beside the frames; scaled to a similar size they are learned sooner.
        output: Tensor = self.layers(torch.cat([before - 0.5, after - 0.5, 4 * (after - before)], 1))
        return output


def train_inverse_dynamics(
    pairs: Tensor, actions: Tensor, parts: Sequence[MeasuredPart], seed: int, steps: int = 600
) -> InverseDynamics:
    """Train an `InverseDynamics`.

    Deterministic given the seed, on one machine with one number of threads. Global random generators are
    neither read nor changed.

    Args:
        pairs: Pairs of frames (n 2 3 height width).
        actions: The action of each pair (n a).
        parts: What to read of them.
        seed: The seed.
        steps: Optimizer steps.

    Raises:
        V2WError: There is no pair, or not one action for each.
    """
    _check("train a network that reads actions", pairs, actions)
    generator = torch.Generator().manual_seed(seed)
    model = _initialised(actions.shape[1], generator).to(pairs.device)
    model.mean, model.deviation = actions.mean(0), actions.std(0, correction=0).clamp(min=1e-6)
    scaled = (actions - model.mean) / model.deviation
    pairs = torch.cat([downscaled(chunk) for chunk in pairs.split(256)])
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(pairs), (BATCH,), generator=generator).to(pairs.device)
        optimizer.zero_grad()
        output = model(pairs[chosen])
        losses = [_loss(part, output, actions[chosen], scaled[chosen]) for part in parts]
        torch.stack(losses).mean().backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def score_sums(
    model: nn.Module, pairs: Tensor, actions: Tensor, parts: Sequence[MeasuredPart], centre: Tensor
) -> Tensor:
    """What scores are made of, for each pair and part; added up over pairs, `score` takes it.

    Args:
        model: A trained network.
        pairs: Pairs of frames (n 2 3 height width).
        actions: The action of each pair (n a).
        parts: k parts.
        centre: What an amount's deviations are counted from (a,): the mean of all actions that are measured.

    Returns:
        (n k 4) float64.

    Raises:
        V2WError: There is no pair, or not one action for each.
    """
    _check("measure whether actions can be read", pairs, actions)
    output = torch.cat([model(chunk) for chunk in pairs.split(256)])
    amounts = output * model.deviation + model.mean if isinstance(model, InverseDynamics) else output
    sums = torch.zeros(len(pairs), len(parts), SUMS, dtype=torch.float64)
    for i, part in enumerate(parts):
        true = part.of(actions)
        if part.kind == "discrete":
            sums[:, i, 0] = (part.of(output).argmax(1) == true.argmax(1)).double()
            sums[:, i, 1] = 1
        elif part.kind == "multi_binary":
            pressed, read = true[:, 0] > 0.5, part.of(output)[:, 0] > 0
            sums[:, i] = torch.stack([pressed & read, pressed, ~pressed & ~read, ~pressed], 1).double()
        else:
            sums[:, i, 0] = (part.of(amounts) - true).square()[:, 0]
            sums[:, i, 1] = (true - part.of(centre)).square()[:, 0]
    return sums


def score(part: MeasuredPart, sums: Tensor) -> Tensor:
    """Scores (…) of sums (… 4): accuracy, balanced accuracy, or R². NaN where there was nothing to tell apart."""
    first, of, second, of_second = sums.unbind(-1)
    of = of.where(of > 0, torch.nan)
    if part.kind == "multi_binary":
        return (first / of + second / of_second) / 2
    return first / of if part.kind == "discrete" else 1 - first / of


def score_ignoring(part: MeasuredPart, actions: Tensor) -> float:
    """The score of one answer to all `actions` (n a): the most frequent choice, one state of the key, the mean."""
    if part.kind == "discrete":
        return int(part.of(actions).argmax(1).bincount().max()) / len(actions)
    return 0.5 if part.kind == "multi_binary" else 0.0


def downscaled(pairs: Tensor) -> Tensor:
    """Frames (n m 3 height width) as (n m 3 SIDE SIDE), by area; those of this size already are kept as they are."""
    small: Tensor = adaptive_avg_pool2d(pairs.flatten(0, 1), SIDE).unflatten(0, pairs.shape[:2])
    return small


def pairs_of(frames: Tensor) -> Tensor:
    """Frames (n t 3 h w) -> neighbours (n·(t-1) 2 3 h w)."""
    return torch.stack([frames[:, :-1], frames[:, 1:]], 2).flatten(0, 1)


def _loss(part: MeasuredPart, output: Tensor, actions: Tensor, scaled: Tensor) -> Tensor:
    own = part.of(output)
    if part.kind == "discrete":
        return cross_entropy(own, part.of(actions).argmax(1))
    if part.kind == "multi_binary":
        return binary_cross_entropy_with_logits(own, part.of(actions))
    return (own - part.of(scaled)).square().mean()


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU()


def _initialised(action_dim: int, generator: torch.Generator) -> InverseDynamics:
    """A new model with weights from `generator` alone."""
    with torch.device("meta"):  # torch's own initialisation would use the global generator
        model = InverseDynamics(action_dim)
    model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)  # as torch initialises
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return model


def _check(asked: str, pairs: Tensor, actions: Tensor) -> None:
    if not len(pairs):
        raise V2WError(asked, "no pair of frames", "episodes of at least two frames")
    if actions.ndim != 2 or len(actions) != len(pairs):
        raise V2WError(asked, f"{len(pairs)} pairs of frames but actions of shape {tuple(actions.shape)}")
