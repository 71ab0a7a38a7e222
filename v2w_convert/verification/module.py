"""Is it causal? For any module with a frame axis, of this project or not: one line in a test.

    from v2w_convert.verification import assert_causal, assert_streams

    assert_causal(encoder, video, frame_dim=2)  # video (b c t h w)
    assert_streams(model, step, frames, frame_dim=1)  # step(frames, state) -> (output, state)

Causality is exact: what comes later may not change a bit. A module that ignores its past does not pass for causal.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.plan.probe import mixing_sites, randomize_zero_init


@torch.no_grad()
def influence(
    call: Callable[[Tensor], Any], x: Tensor, *, frame_dim: int, output_frame_dim: int | None = None
) -> Tensor:
    """Row o, column i: the largest absolute change of output frame o when input frame i is replaced, (t' t) float64.

    call              x -> output: a tensor, or something whose first tensor it is (a tuple, `.sample`, `.latent_dist`)
    x                 any layout and float dtype, t frames on `frame_dim`
    output_frame_dim  where the output's t' frames lie; None: as in `x`

    NaN where an output is not finite.
    """
    out_dim = frame_dim if output_frame_dim is None else output_frame_dim
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x) * (x.std() + 1)
    before = _output(call(x))
    columns = []
    for frame in range(x.shape[frame_dim]):
        replaced = x.clone()
        replaced.select(frame_dim, frame).copy_(noise.select(frame_dim, frame))
        change = (_output(call(replaced)).double() - before.double()).abs()
        columns.append(change.movedim(out_dim, 0).flatten(1).amax(1))
    return torch.stack(columns, 1)


def latest(inputs: int, outputs: int) -> list[int]:
    """The last input frame that each output frame may see, where the numbers of frames tell.

    As many of both; or k to one in either direction, with or without a first frame that stands alone. Where both would
    do, k is a power of two, and the first frame stands alone. Raises ValueError where that does not tell.
    """
    if inputs == outputs:
        return list(range(outputs))
    many, few = max(inputs, outputs), min(inputs, outputs)
    fitting = [((many - 1) // (few - 1), True)] if few > 1 and (many - 1) % (few - 1) == 0 else []
    fitting += [(many // few, False)] if many % few == 0 else []
    chosen = [(k, alone) for k, alone in fitting if k & (k - 1) == 0] or fitting
    if len(chosen) != 1 and not (chosen and chosen[0][0] & (chosen[0][0] - 1) == 0):
        raise ValueError(
            f"{inputs} frames give {outputs}: say by `latest` which the last one is that each may see"
        )
    k, alone = chosen[0]
    if inputs > outputs:  # an encoder
        return [o * k + (0 if alone else k - 1) for o in range(outputs)]
    return [(o + k - 1) // k if alone else o // k for o in range(outputs)]


def assert_causal(
    module: nn.Module,
    x: Tensor,
    *,
    frame_dim: int,
    output_frame_dim: int | None = None,
    call: Callable[[nn.Module, Tensor], Any] | None = None,
    latest: Iterable[int] | None = None,
    sees: int | None = 1,
    as_it_is: bool = False,
) -> Tensor:
    """Raises AssertionError unless no output frame sees a later input frame, and each sees itself and the past.

    module    called on `x`, or by `call(module, x)`; in eval mode. A copy is taken, and woken (`plan.probe.wake`): a
              layer that starts at zero would hide what lies behind it
    x         any layout and float dtype, t frames on `frame_dim`
    latest    for each output frame, the last input frame that it may see; None: told by the numbers of frames
    sees      how many frames before that one each output must react to; None: all; 0: none need be
    as_it_is  measure the module itself, with its own weights

    Returns the influence (t' t). The message names the frames, the size of the largest leak, and, where as many frames
    come out as go in, the modules through which later frames are seen.
    """
    judged = module if as_it_is else deepcopy(module)
    training = judged.training
    judged.eval()
    try:
        if not as_it_is:
            randomize_zero_init(judged)

        def run(given: Tensor) -> Tensor:
            return _output(judged(given) if call is None else call(judged, given))

        with torch.no_grad():
            first, again = run(x), run(x)
        assert torch.equal(first, again), "two runs of one input differ: nothing can be told of it"
        effect = influence(run, x, frame_dim=frame_dim, output_frame_dim=output_frame_dim)
        limits = _limits(effect, latest)
        assert bool(torch.isfinite(effect).all()), "its output is not finite"
        faults = _future(effect, limits) + _past(effect, limits, sees)
        if faults and (effect > 0).any() and effect.shape[0] == effect.shape[1] == x.shape[frame_dim]:
            faults += _blamed(judged, run, x, frame_dim, output_frame_dim)
        assert not faults, "; ".join(faults)
    finally:
        judged.train(training)
    return effect


@torch.no_grad()
def assert_streams(
    whole: Callable[[Tensor], Any],
    step: Callable[[Tensor, Any], tuple[Any, Any]],
    x: Tensor,
    *,
    frame_dim: int,
    sizes: Iterable[int] = (1, 2, 1, 3),
    allowed: float = 1e-9,
) -> float:
    """Raises AssertionError unless frames given chunk by chunk give what they give at once; returns how far apart they are.

    whole    x -> output, frames on `frame_dim` of both
    step     (chunk, state) -> (output, state); the first state is None
    sizes    of the chunks, again and again until `x` is used up
    allowed  largest difference over the output's largest value; choose it for the dtype
    """
    expected = _output(whole(x))
    outputs: list[Tensor] = []
    state, start, sizes = None, 0, list(sizes)
    while start < x.shape[frame_dim]:
        size = min(sizes[len(outputs) % len(sizes)], x.shape[frame_dim] - start)
        output, state = step(x.narrow(frame_dim, start, size), state)
        outputs.append(_output(output))
        start += size
    found = torch.cat(outputs, frame_dim)
    assert found.shape == expected.shape, f"{tuple(found.shape)} in chunks, {tuple(expected.shape)} at once"
    apart = (found.double() - expected.double()).abs().movedim(frame_dim, 0).flatten(1).amax(1)
    far = float(apart.max() / expected.double().abs().max())
    begun = (apart > allowed * expected.double().abs().max()).nonzero().flatten().tolist()
    assert far <= allowed, (
        f"in chunks it is another thing, by {far:.1e} (allowed {allowed:.0e}), first at frame {begun[:1]}"
    )
    return far


def _limits(effect: Tensor, given: Iterable[int] | None) -> Tensor:
    outputs, inputs = effect.shape
    limits = list(latest(inputs, outputs) if given is None else given)
    assert len(limits) == outputs, f"latest names {len(limits)} frames, and {outputs} come out"
    return torch.tensor(limits)


def _future(effect: Tensor, limits: Tensor) -> list[str]:
    later = torch.arange(effect.shape[1]) > limits[:, None]
    leak = effect * later
    if not bool((leak > 0).any()):
        return []
    o, i = divmod(int(leak.argmax()), effect.shape[1])
    pairs = int((leak > 0).sum())
    return [
        f"not causal: output frame {o} changes by {float(leak[o, i]):.2g} when input frame {i} does, which comes later "
        f"({pairs} such pairs)"
    ]


def _past(effect: Tensor, limits: Tensor, sees: int | None) -> list[str]:
    index = torch.arange(effect.shape[1])
    back = effect.shape[1] if sees is None else sees
    due = (index <= limits[:, None]) & (index >= limits[:, None] - back)
    blind = (due & (effect == 0)).nonzero().tolist()
    if not blind:
        return []
    named = ", ".join(f"{i} in output {o}" for o, i in blind[:5])
    return [f"the past is not seen: {len(blind)} frames without effect where they should have one: {named}"]


def _blamed(
    module: nn.Module,
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    frame_dim: int,
    output_frame_dim: int | None,
) -> list[str]:
    """The modules that see later frames, if they can be told."""
    out_dim = frame_dim if output_frame_dim is None else output_frame_dim
    try:
        sites = mixing_sites(module, lambda y: run(y).movedim(out_dim, frame_dim), x, frame_dim)
    except V2WError:
        return []
    named = [f"{site.name or 'its own forward'} ({site.module})" for site in sites if site.future]
    return (
        [f"later frames are seen in {', '.join(named[:8])}" + (" …" if len(named) > 8 else "")]
        if named
        else []
    )


def _output(given: Any) -> Tensor:
    """The tensor in what a module gives back."""
    if isinstance(given, Tensor):
        return given
    if hasattr(given, "latent_dist"):  # what diffusers' autoencoders encode to
        return given.latent_dist.mode()
    if isinstance(given, dict):
        given = list(given.values())
    return _output(given[0])
