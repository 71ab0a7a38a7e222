"""Is a module causal, and does it stream? For any module with a frame axis: one line in a test.

    from v2w_convert.verification import assert_causal, assert_streams

    assert_causal(encoder, video, frame_dim=2)  # video (b c t h w)
    assert_streams(model, step, frames, frame_dim=1)  # step(frames, state) -> (output, state)

Causality is exact: later frames must not change one bit. A module that ignores its past does not pass for causal.
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
    """Measure which output frame depends on which input frame.

    Args:
        call: x -> output: a tensor, or something whose first tensor it is (a tuple, `.sample`, `.latent_dist`).
        x: Any layout and float dtype, t frames on `frame_dim`.
        frame_dim: The frame axis of `x`.
        output_frame_dim: The frame axis of the output, with t' frames; None: that of `x`.

    Returns:
        (t' t) float64. Row o, column i: the largest absolute change of output frame o when input frame i is replaced;
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
    """Return the last input frame that each output frame may see, from the numbers of frames.

    The numbers are equal; or k frames belong to one in either direction, with or without a separate first frame. If both
    are possible, k is a power of two, and the first frame is separate.

    Args:
        inputs: The number of input frames.
        outputs: The number of output frames.

    Raises:
        ValueError: If the numbers of frames do not decide it.
    """
    if inputs == outputs:
        return list(range(outputs))
    many, few = max(inputs, outputs), min(inputs, outputs)
    fitting = [((many - 1) // (few - 1), True)] if few > 1 and (many - 1) % (few - 1) == 0 else []
    fitting += [(many // few, False)] if many % few == 0 else []
    chosen = [(k, alone) for k, alone in fitting if k & (k - 1) == 0] or fitting
    if len(chosen) != 1 and not (chosen and chosen[0][0] & (chosen[0][0] - 1) == 0):
        raise ValueError(
            f"{inputs} frames give {outputs}: pass `latest`, the last input frame that each output frame may see"
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
    randomize: bool = True,
) -> Tensor:
    """Assert that no output frame sees a later input frame, and that each sees itself and the past.

    Args:
        module: Called on `x`, or by `call(module, x)`; in eval mode.
        x: Any layout and float dtype, t frames on `frame_dim`.
        frame_dim: The frame axis of `x`.
        output_frame_dim: The frame axis of the output; None: that of `x`.
        call: How to call the module.
        latest: For each output frame, the last input frame that it may see; None: worked out from the numbers of frames.
        sees: How many frames before that one must have an effect on each output frame; None: all; 0: none is required.
        randomize: True to measure a copy whose zero-initialised layers are randomised (`plan.probe.randomize_zero_init`),
            since a layer of zeros would hide a leak before it. False to measure the module itself.

    Returns:
        The influence, (t' t) float64.

    Raises:
        AssertionError: With the frames, the size of the largest leak, and, if there are as many output frames as input
            frames, the modules that leak.
    """
    tested = deepcopy(module) if randomize else module
    training = tested.training
    tested.eval()
    try:
        if randomize:
            randomize_zero_init(tested)

        def run(given: Tensor) -> Tensor:
            return _output(tested(given) if call is None else call(tested, given))

        with torch.no_grad():
            first, again = run(x), run(x)
        assert torch.equal(first, again), "two runs with the same input differ: causality cannot be measured"
        effect = influence(run, x, frame_dim=frame_dim, output_frame_dim=output_frame_dim)
        limits = _limits(effect, latest)
        assert bool(torch.isfinite(effect).all()), "the output is not finite"
        problems = _future(effect, limits) + _past(effect, limits, sees)
        if problems and (effect > 0).any() and effect.shape[0] == effect.shape[1] == x.shape[frame_dim]:
            problems += _blame(tested, run, x, frame_dim, output_frame_dim)
        assert not problems, "; ".join(problems)
    finally:
        tested.train(training)
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
    """Assert that frames passed chunk by chunk give the same output as all at once.

    Args:
        whole: x -> output, frames on `frame_dim` of both.
        step: (chunk, state) -> (output, state); the first state is None.
        x: Any layout and float dtype, t frames on `frame_dim`.
        frame_dim: The frame axis.
        sizes: Of the chunks, repeated until `x` is used up.
        allowed: Largest difference over the output's largest value; choose it for the dtype.

    Returns:
        The largest difference over the output's largest value.

    Raises:
        AssertionError: If that is more than `allowed`, or if the shapes differ.
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
    largest = expected.double().abs().max()
    difference = (found.double() - expected.double()).abs().movedim(frame_dim, 0).flatten(1).amax(1)
    relative = float(difference.max() / largest)
    broken = (difference > allowed * largest).nonzero().flatten().tolist()
    assert relative <= allowed, (
        f"the output in chunks differs by {relative:.1e} (allowed {allowed:.0e}), first at frame {broken[:1]}"
    )
    return relative


def _limits(effect: Tensor, given: Iterable[int] | None) -> Tensor:
    outputs, inputs = effect.shape
    limits = list(latest(inputs, outputs) if given is None else given)
    assert len(limits) == outputs, f"latest has {len(limits)} entries for {outputs} output frames"
    return torch.tensor(limits)


def _future(effect: Tensor, limits: Tensor) -> list[str]:
    later = torch.arange(effect.shape[1]) > limits[:, None]
    leak = effect * later
    if not bool((leak > 0).any()):
        return []
    o, i = divmod(int(leak.argmax()), effect.shape[1])
    pairs = int((leak > 0).sum())
    return [
        f"not causal: output frame {o} changes by {float(leak[o, i]):.2g} when input frame {i} does, which is later "
        f"({pairs} such pairs)"
    ]


def _past(effect: Tensor, limits: Tensor, sees: int | None) -> list[str]:
    index = torch.arange(effect.shape[1])
    back = effect.shape[1] if sees is None else sees
    expected = (index <= limits[:, None]) & (index >= limits[:, None] - back)
    blind = (expected & (effect == 0)).nonzero().tolist()
    if not blind:
        return []
    pairs = ", ".join(f"{i} in output {o}" for o, i in blind[:5])
    return [f"the past is not seen: {len(blind)} frames without effect where they should have one: {pairs}"]


def _blame(
    module: nn.Module,
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    frame_dim: int,
    output_frame_dim: int | None,
) -> list[str]:
    """Return the modules that see later frames, if the probe can find them."""
    out_dim = frame_dim if output_frame_dim is None else output_frame_dim
    try:
        sites = mixing_sites(module, lambda y: run(y).movedim(out_dim, frame_dim), x, frame_dim)
    except V2WError:
        return []
    named = [f"{site.name or 'its own forward'} ({site.module})" for site in sites if site.future]
    return (
        [f"later frames leak in {', '.join(named[:8])}" + (" …" if len(named) > 8 else "")] if named else []
    )


def _output(returned: Any) -> Tensor:
    """Return the tensor in what a module returned."""
    if isinstance(returned, Tensor):
        return returned
    if hasattr(returned, "latent_dist"):  # an autoencoder of diffusers
        mode: Tensor = returned.latent_dist.mode()
        return mode
    if isinstance(returned, dict):
        returned = list(returned.values())
    return _output(returned[0])
