"""How an attention turns queries and keys by the frame's place, read off them.

Every token is given the same content, so that what tells one frame's vector from another's is the turn. Two channels
are a pair if the sum of their squares stays; how far they turn is an angle; the angles of all pairs are a power law.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.entries import first_that_is
from v2w_convert.expression import evaluate_number
from v2w_convert.operations.rotary import Rotary

TOLERANCE = 1e-9  # of the largest value, float64
ROUND = (10000.0, 1000.0, 500.0, 256.0, 100.0, 1.0, 2.0, 0.5, math.pi, math.pi / 2, 2 * math.pi)


class Unmeasured(Exception):
    """What the turns are is not what `Rotary` can say."""


@dataclass(frozen=True)
class Pair:
    first: int
    second: int
    angle: float  # radians from one frame to the next, -pi … pi


def measure(x: Tensor, root: nn.Module, config: dict[str, Any]) -> Rotary | None:
    """The turns of vectors x (heads t d), equal but for their frames' places; None: there are none.

    Raises Unmeasured.
    """
    x = x.double()
    limit = TOLERANCE * float(x.abs().max())
    if not bool(((x - x[:, :1]).abs() > limit).any()):
        return None
    each = [_pairs(head, limit) for head in x]
    head = x.shape[-1]
    if all(_alike(pairs, each[0]) for pairs in each):
        return _said(each[0], head, config, joined=False)
    for name, tensor in root.named_parameters(recurse=False):
        if (
            tensor.ndim == 3
            and tensor.shape[1] == len(x)
            and all(_learned(pairs, row) for pairs, row in zip(each, tensor[0].tolist(), strict=True))
        ):
            form = _form(each[0], head)
            return Rotary.model_validate({"size": _size(2 * len(each[0]), config), "learned": name, **form})
    joined = _pairs(x.movedim(0, 1).flatten(1), limit)
    return _said(joined, head, config, joined=True)


def _pairs(y: Tensor, limit: float) -> list[Pair]:
    """The pairs of channels of y (t d) that turn, in order of their first channels."""
    left = [int(i) for i in ((y - y[:1]).abs().amax(0) > limit).nonzero().flatten()]
    largest = float(y.square().max())
    pairs = []
    while left:
        i = left.pop(0)
        sums = y[:, i : i + 1].square() + y[:, left].square()  # t, channels
        spread = (sums - sums[:1]).abs().amax(0) / largest
        fitting = [(float(s), j) for s, j in zip(spread, left, strict=True) if s < TOLERANCE]
        if not fitting:
            raise Unmeasured(f"channel {i} of the queries changes with the frame, and turns with no other")
        for _, j in sorted(fitting):
            z = torch.complex(y[:, i], y[:, j])
            turns = z[1:] / z[:-1]
            if float((turns - turns[0]).abs().max()) < 1e-6:
                pairs.append(Pair(i, j, float(torch.angle(turns[0]))))
                left.remove(j)
                break
        else:
            raise Unmeasured(f"channel {i} of the queries does not turn evenly from frame to frame")
    return pairs


def _alike(a: list[Pair], b: list[Pair]) -> bool:
    return len(a) == len(b) and all(
        (p.first, p.second) == (q.first, q.second) and _near(p.angle, q.angle)
        for p, q in zip(a, b, strict=True)
    )


def _near(a: float, b: float) -> bool:
    """Whether two angles are the same turn."""
    return abs(math.remainder(a - b, 2 * math.pi)) < 1e-7


def _learned(pairs: list[Pair], row: list[float]) -> bool:
    return len(pairs) == len(row) and all(_near(p.angle, angle) for p, angle in zip(pairs, row, strict=True))


def _filled(pairs: list[Pair]) -> list[Pair]:
    """With those that turn by whole turns, and so were not seen to move: where they leave a gap."""
    gap, known = pairs[0].second - pairs[0].first, {pair.first: pair for pair in pairs}
    step = min((b.first - a.first for a, b in pairwise(pairs)), default=1)
    return [
        known.get(first, Pair(first, first + gap, 0.0))
        for first in range(pairs[0].first, pairs[-1].first + 1, step)
    ]


def _form(pairs: list[Pair], head: int) -> dict[str, Any]:
    """`pairs` and `every` of a Rotary. Raises Unmeasured."""
    n, start = len(pairs), pairs[0].first
    firsts = [p.first - start for p in pairs]
    gaps = {p.second - p.first for p in pairs}
    if gaps == {1}:
        steps = {b - a for a, b in pairwise(firsts)} or {2}
        step = steps.pop()
        if not steps and step % 2 == 0:
            return {"stride": step // 2} if step > 2 else {}
    if firsts == list(range(n)):
        if gaps == {head // 2} and n != head // 2:
            return {"pairing": "half_head"}
        if gaps == {n}:
            return {"pairing": "half"}
    raise Unmeasured(
        f"channels {[(p.first, p.second) for p in pairs[:4]]} … are no pairs that a plan can name"
    )


def _said(pairs: list[Pair], head: int, config: dict[str, Any], joined: bool) -> Rotary:
    """The pairs as a plan says them."""
    pairs = _filled(pairs)
    form = _form(pairs, head)
    n = len(pairs)
    angles = [p.angle for p in pairs]
    try:
        theta, scale, rising = _law(angles, n, config)
    except Unmeasured:
        n += 1  # the last one may turn by whole turns too
        theta, scale, rising = _law(angles, n, config)
    if joined:
        form["heads"] = "joined"
    if rising:
        form["ascending"] = True
    start = pairs[0].first
    return Rotary.model_validate(
        {
            "start": 0 if start == 0 else first_that_is(start, _sizes(config, joined), config) or start,
            "size": _size(2 * n, config, joined),
            "theta": theta,
            "scale": scale,
            **form,
        }
    )


def _size(value: int, config: dict[str, Any], joined: bool = False) -> str | int:
    return first_that_is(value, _sizes(config, joined), config) or value


def _sizes(config: dict[str, Any], joined: bool = False) -> Iterator[str]:
    """What may say how many channels of a head are time's, or which is the first of them."""
    if not joined:
        for key, value in config.items():
            if isinstance(value, list | tuple) and any(word in key for word in ("axes", "rope", "dim_list")):
                yield f"{key}[0]"
    if joined:
        d = "num_attention_heads * attention_head_dim"
        yield from (f"2 * ({d} // 6)", f"{d} - 6 * ({d} // 6)", d)
        return
    d = "attention_head_dim"
    yield from (f"{d} - 4 * ({d} // 6)", f"{d} // 3", f"{d} // 4", d, f"2 * ({d} // 6)", f"{d} // 2")


def _law(angles: list[float], n: int, config: dict[str, Any]) -> tuple[float | str, float | str, bool]:
    """theta, scale and rising, such that they give these angles as the first of n. Raises Unmeasured."""
    named = [
        k
        for k, v in config.items()
        if "theta" in k and isinstance(v, int | float) and not isinstance(v, bool)
    ]
    bases: list[str | float] = [*named, 10000.0]
    for key, value in config.items():
        if "scale" in key and isinstance(value, list | tuple) and value:
            # "NTK": a longest clip beyond the trained one stretches the base of the powers
            power = _size(2 * n, config)
            bases.append(f"10000 * {key}[0] ** (({power}) / (({power}) - 2))")
    scales: list[str | float] = [1.0, *(f"1 / {k}" for k, v in config.items() if k.endswith("scale_t") and v)]
    scales += [r for r in ROUND if r != 1]
    for rising in (False, True):
        bases_, scales_ = list(bases), list(scales)
        derived = _derived(angles, n, rising)
        if derived is not None:
            bases_.append(derived[0])
            scales_.append(derived[1])
        for scale in scales_:
            for theta in bases_:
                try:
                    base, factor = evaluate_number(theta, config), evaluate_number(scale, config)
                except ValueError:
                    continue
                powers = [i / max(n - 1, 1) if rising else -i / n for i in range(len(angles))]
                if base > 0 and all(_near(factor * base**p, a) for p, a in zip(powers, angles, strict=True)):
                    return theta, scale, rising
    raise Unmeasured("the angles by which the queries turn are no power law")


def _derived(angles: list[float], n: int, rising: bool) -> tuple[float, float] | None:
    """theta and scale as the slowest two of n angles say, which are less than half a turn."""
    if len(angles) < 2:
        return (10000.0, angles[0]) if angles[0] > 0 else None
    a, b = (angles[0], angles[1]) if rising else (angles[-2], angles[-1])
    if min(a, b) <= 0 or (b <= a) == rising:
        return None
    theta = (b / a) ** (n - 1) if rising else (a / b) ** n
    scale = a if rising else b * theta ** ((len(angles) - 1) / n)
    return _rounded(theta), _rounded(scale)


def _rounded(value: float) -> float:
    return next((r for r in ROUND if abs(value / r - 1) < 1e-5), value)
