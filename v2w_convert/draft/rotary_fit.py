"""How an attention rotates queries and keys by the frame's position, fitted to what it computes.

Every token has the same content, so that vectors of different frames differ by the rotation only. Two channels are a
pair if the sum of their squares is constant; each pair has an angle per frame; the angles of all pairs follow a power
law. (RoFormer, arXiv 2104.09864.)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.config_keys import expression_for
from v2w_convert.expression import evaluate_number
from v2w_convert.operations.rotary import Rotary

TOLERANCE = 1e-9  # of the largest value, float64
# Tried before any other theta or scale: what fits to 1e-5 is meant.
COMMON_VALUES = (10000.0, 1000.0, 500.0, 256.0, 100.0, 1.0, 2.0, 0.5, math.pi, math.pi / 2, 2 * math.pi)

Config = dict[str, Any]


class RotaryFitError(Exception):
    """The vectors do not rotate in a way that a `Rotary` can describe."""


@dataclass(frozen=True)
class ChannelPair:
    """Two channels that rotate together.

    Attributes:
        first: Index of the first channel.
        second: Index of the second.
        angle: Radians from one frame to the next, -pi to pi.
    """

    first: int
    second: int
    angle: float


@dataclass(frozen=True)
class PowerLaw:
    """The angles of all pairs, by the fields of a `Rotary`."""

    theta: float | str
    scale: float | str
    ascending: bool


def fit_rotary(x: Tensor, root: nn.Module, config: Config) -> Rotary | None:
    """The rotation of vectors that are equal but for their frames' positions.

    Args:
        x: (heads t d) queries or keys of t consecutive frames.
        root: The model, whose parameters may be learned frequencies.
        config: The model's, over which the rotary's numbers are expressions where possible.

    Returns:
        None if the vectors do not depend on the frame.

    Raises:
        RotaryFitError: They do, but not as a `Rotary` can describe.
    """
    x = x.double()
    limit = TOLERANCE * float(x.abs().max())
    if not bool(((x - x[:, :1]).abs() > limit).any()):
        return None
    heads = [_find_pairs(head, limit) for head in x]
    width = x.shape[-1]
    if all(_same_pairs(pairs, heads[0]) for pairs in heads):
        return _to_rotary(heads[0], width, config, joined=False)
    learned = _learned_frequencies(heads, root)
    if learned is not None:
        size = _as_expression(2 * len(heads[0]), config)
        return Rotary.model_validate({"size": size, "learned": learned, **_pairing_fields(heads[0], width)})
    return _to_rotary(_find_pairs(x.movedim(0, 1).flatten(1), limit), width, config, joined=True)


# ---------------------------------------------------------------------------------------------------------- pairs


def _find_pairs(y: Tensor, limit: float) -> list[ChannelPair]:
    """The pairs of channels of y (t d) that rotate, in order of their first channels. Raises RotaryFitError."""
    left = [int(i) for i in ((y - y[:1]).abs().amax(0) > limit).nonzero().flatten()]
    largest = float(y.square().max())
    pairs = []
    while left:
        i = left.pop(0)
        squares = y[:, i : i + 1].square() + y[:, left].square()  # t, channels
        spread = (squares - squares[:1]).abs().amax(0) / largest
        partners = [(float(s), j) for s, j in zip(spread, left, strict=True) if s < TOLERANCE]
        if not partners:
            raise RotaryFitError(
                f"channel {i} of the queries changes with the frame, and rotates with no other"
            )
        pair = next(filter(None, (_pair(y, i, j) for _, j in sorted(partners))), None)
        if pair is None:
            raise RotaryFitError(f"channel {i} of the queries does not rotate evenly from frame to frame")
        pairs.append(pair)
        left.remove(pair.second)
    return pairs


def _pair(y: Tensor, i: int, j: int) -> ChannelPair | None:
    """Channels i and j of y (t d) as a pair; None if the angle from frame to frame varies."""
    z = torch.complex(y[:, i], y[:, j])
    steps = z[1:] / z[:-1]
    if float((steps - steps[0]).abs().max()) >= 1e-6:
        return None
    return ChannelPair(i, j, float(torch.angle(steps[0])))


def _same_pairs(a: list[ChannelPair], b: list[ChannelPair]) -> bool:
    return len(a) == len(b) and all(
        (p.first, p.second) == (q.first, q.second) and _same_angle(p.angle, q.angle)
        for p, q in zip(a, b, strict=True)
    )


def _same_angle(a: float, b: float) -> bool:
    """Whether two angles differ by whole rotations."""
    return abs(math.remainder(a - b, 2 * math.pi)) < 1e-7


def _learned_frequencies(heads: list[list[ChannelPair]], root: nn.Module) -> str | None:
    """The parameter (axes heads pairs) of the model that has the angles of every head, by name."""
    for name, tensor in root.named_parameters(recurse=False):
        if (
            tensor.ndim == 3
            and tensor.shape[1] == len(heads)
            and all(_has_angles(pairs, row) for pairs, row in zip(heads, tensor[0].tolist(), strict=True))
        ):
            return name
    return None


def _has_angles(pairs: list[ChannelPair], angles: list[float]) -> bool:
    return len(pairs) == len(angles) and all(
        _same_angle(p.angle, angle) for p, angle in zip(pairs, angles, strict=True)
    )


# ---------------------------------------------------------------------------------------------- fields of a Rotary


def _to_rotary(pairs: list[ChannelPair], width: int, config: Config, joined: bool) -> Rotary:
    """The pairs of a head of `width` channels, or of all heads joined. Raises RotaryFitError."""
    pairs = _fill_gaps(pairs)
    fields = _pairing_fields(pairs, width)
    n = len(pairs)
    angles = [p.angle for p in pairs]
    try:
        law = _fit_power_law(angles, n, config)
    except RotaryFitError:
        n += 1  # the last pair may rotate by whole rotations, which look like none
        law = _fit_power_law(angles, n, config)
    if joined:
        fields["heads"] = "joined"
    if law.ascending:
        fields["ascending"] = True
    start = pairs[0].first
    return Rotary.model_validate(
        {
            "start": 0 if start == 0 else _as_expression(start, config, joined),
            "size": _as_expression(2 * n, config, joined),
            "theta": law.theta,
            "scale": law.scale,
            **fields,
        }
    )


def _fill_gaps(pairs: list[ChannelPair]) -> list[ChannelPair]:
    """With the pairs that rotate by whole rotations, which look as if they did not: where they leave a gap."""
    distance, known = pairs[0].second - pairs[0].first, {pair.first: pair for pair in pairs}
    step = min((b.first - a.first for a, b in pairwise(pairs)), default=1)
    return [
        known.get(first, ChannelPair(first, first + distance, 0.0))
        for first in range(pairs[0].first, pairs[-1].first + 1, step)
    ]


def _pairing_fields(pairs: list[ChannelPair], width: int) -> dict[str, Any]:
    """`pairing` and `stride` of a Rotary. Raises RotaryFitError."""
    n, start = len(pairs), pairs[0].first
    firsts = [p.first - start for p in pairs]
    distances = {p.second - p.first for p in pairs}
    if distances == {1}:
        steps = {b - a for a, b in pairwise(firsts)} or {2}
        step = steps.pop()
        if not steps and step % 2 == 0:
            return {"stride": step // 2} if step > 2 else {}
    if firsts == list(range(n)):
        if distances == {width // 2} and n != width // 2:
            return {"pairing": "half_head"}
        if distances == {n}:
            return {"pairing": "half"}
    raise RotaryFitError(
        f"a plan has no word for these pairs of channels: {[(p.first, p.second) for p in pairs[:4]]} …"
    )


def _as_expression(channels: int, config: Config, joined: bool = False) -> str | int:
    """A number of channels of a head as an expression over the config; the number if there is none."""
    return expression_for(channels, _channel_expressions(config, joined), config) or channels


def _channel_expressions(config: Config, joined: bool = False) -> Iterator[str]:
    """What may say how many channels of a head are time's, or which is the first of them."""
    if joined:
        d = "num_attention_heads * attention_head_dim"
        yield from (f"2 * ({d} // 6)", f"{d} - 6 * ({d} // 6)", d)
        return
    for key, value in config.items():
        if isinstance(value, list | tuple) and any(part in key for part in ("axes", "rope", "dim_list")):
            yield f"{key}[0]"
    d = "attention_head_dim"
    yield from (f"{d} - 4 * ({d} // 6)", f"{d} // 3", f"{d} // 4", d, f"2 * ({d} // 6)", f"{d} // 2")


# ------------------------------------------------------------------------------------------------------ power law


def _fit_power_law(angles: list[float], n: int, config: Config) -> PowerLaw:
    """The law whose first angles of n are these. Raises RotaryFitError."""
    for ascending in (False, True):
        thetas, scales = _theta_candidates(n, config), _scale_candidates(config)
        derived = _derive_power_law(angles, n, ascending)
        if derived is not None:
            thetas.append(derived[0])
            scales.append(derived[1])
        for scale in scales:
            for theta in thetas:
                law = PowerLaw(theta, scale, ascending)
                if _follows(angles, n, law, config):
                    return law
    raise RotaryFitError("the angles by which the queries rotate follow no power law")


def _follows(angles: list[float], n: int, law: PowerLaw, config: Config) -> bool:
    try:
        base, factor = evaluate_number(law.theta, config), evaluate_number(law.scale, config)
    except ValueError:
        return False
    powers = [i / max(n - 1, 1) if law.ascending else -i / n for i in range(len(angles))]
    return base > 0 and all(
        _same_angle(factor * base**power, angle) for power, angle in zip(powers, angles, strict=True)
    )


def _theta_candidates(n: int, config: Config) -> list[str | float]:
    named = [
        key
        for key, value in config.items()
        if "theta" in key and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    candidates: list[str | float] = [*named, 10000.0]
    for key, value in config.items():
        if "scale" in key and isinstance(value, list | tuple) and value:
            # "NTK" scaling: for longer clips than those of the training, theta is stretched.
            size = _as_expression(2 * n, config)
            candidates.append(f"10000 * {key}[0] ** (({size}) / (({size}) - 2))")
    return candidates


def _scale_candidates(config: Config) -> list[str | float]:
    named = [f"1 / {key}" for key, value in config.items() if key.endswith("scale_t") and value]
    return [1.0, *named, *(value for value in COMMON_VALUES if value != 1)]


def _derive_power_law(angles: list[float], n: int, ascending: bool) -> tuple[float, float] | None:
    """Theta and scale by the two smallest of n angles, which are less than half a rotation."""
    if len(angles) < 2:
        return (10000.0, angles[0]) if angles[0] > 0 else None
    a, b = (angles[0], angles[1]) if ascending else (angles[-2], angles[-1])
    if min(a, b) <= 0 or (b <= a) == ascending:
        return None
    theta = (b / a) ** (n - 1) if ascending else (a / b) ** n
    scale = a if ascending else b * theta ** ((len(angles) - 1) / n)
    return _snap(theta), _snap(scale)


def _snap(value: float) -> float:
    """The common value that is this one up to rounding, if there is one."""
    return next((common for common in COMMON_VALUES if abs(value / common - 1) < 1e-5), value)
