"""Ways to break the loop of a rollout: methods of `Stream`, and of what begins one, replaced by wrong ones."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from v2w_convert.noise.sampler import LineSampler, SolverSampler
from v2w_convert.world.past import Past, SeenBlock
from v2w_convert.world.rollout import Stream

Method = Callable[..., Any]
Changed = dict[type, dict[str, Method]]

INIT, BRANCH, OBSERVE, STEP_BLOCK = Stream.__init__, Stream.branch, Stream.observe, Stream.step_block
GUIDED, NOISE, AS_HISTORY = Stream._guided, Stream._noise, Stream._as_history
AS_OTHER, FROM_OTHER, SEEN = Stream._as_other_history, Stream._from_other_history, Stream._seen


def _stream(**methods: Method) -> Changed:
    return {Stream: methods}


@contextmanager
def _as(stream: Stream, **attributes: Any) -> Iterator[None]:
    """The stream with other attributes, for a while."""
    own = {name: getattr(stream, name) for name in attributes}
    stream.__dict__.update(attributes)
    try:
        yield
    finally:
        stream.__dict__.update(own)


def _empty(stream: Stream) -> Any:
    """The state before the first frame."""
    state = stream.state
    sites = {
        name: {key: torch.zeros_like(x) for key, x in kept.items()} for name, kept in state.sites.items()
    }
    return state._replace(cursor=torch.zeros_like(state.cursor), sites=sites)


# ---------------------------------------------------------------------------------------------- steps


def _block(
    commit: Method = OBSERVE,
    steps: Callable[[range], Iterable[int]] = iter,
    late: int = 0,
    more: int = 0,
    returned: Method = lambda frames, before: frames[-1],
    solver: Method = lambda self, count: self.world.noise.sampler(count, self.tokens),
) -> Changed:
    """`Stream.step_block` with one part of it changed.

    commit    what becomes of the new frames
    steps     which of the steps are made
    late      how many steps later the level is that the base is told
    more      steps than asked for
    returned  which of the frames on the way from noise, or the frames before, are returned
    solver    where the solver comes from
    """

    def step_block(self: Stream, actions: Tensor | None = None) -> Tensor:
        (b, h, w), world = self.size, self.world
        shape = (b, world.frames_per_block, world.channels, h, w)
        actions, sampler = self._cast(actions), solver(self, self.sampling.steps + more)
        frames = [sampler.start(self._noise(torch.empty(shape, dtype=world.dtype)))]
        last = len(sampler.levels) - 1
        for i in steps(range(last)):
            level = torch.full(shape[:2], float(sampler.levels[min(i + late, last)]))
            frames.append(sampler.step(self._guided(frames[-1], level, actions), frames[-1], i))
        commit(self, frames[-1], actions)
        before = getattr(self, "before", frames[-1])
        self.before = frames[-1]  # type: ignore[attr-defined]
        return returned(frames, before)  # type: ignore[no-any-return]

    return _stream(step_block=torch.no_grad()(step_block))


def _commits_twice(self: Stream, frames: Tensor, actions: Tensor | None) -> None:
    OBSERVE(self, frames, actions)
    OBSERVE(self, frames, actions)


def _solver_of_the_block_before(self: Stream, steps: int) -> Any:
    kept = getattr(self, "solver", None)
    if kept is None:
        self.solver = kept = self.world.noise.sampler(steps, self.tokens)  # type: ignore[attr-defined]
    elif isinstance(kept, SolverSampler):
        kept.scheduler._step_index = None
    return kept


unchanged = _block()  # nothing is wrong: what the faults below are made of
commits_without_action = _block(lambda self, frames, actions: OBSERVE(self, frames))
commits_twice = _block(_commits_twice)
commits_nothing = _block(lambda self, frames, actions: None)
commits_another_frame = _block(lambda self, frames, actions: OBSERVE(self, 0.9 * frames, actions))
skips_first_level = _block(steps=lambda all: all[1:])
skips_last_level = _block(steps=lambda all: all[:-1])
skips_middle_level = _block(steps=lambda all: [i for i in all if i != 1])
one_level_more = _block(more=1)
one_level_less = _block(more=-1)
told_next_level = _block(late=1)
returns_frame_before = _block(returned=lambda frames, before: before)
returns_noisy_frame = _block(returned=lambda frames, before: frames[-2])
solver_not_new = _block(solver=_solver_of_the_block_before)


# ------------------------------------------------------------------------------- passes that denoise


def _denoises(change: Method) -> Changed:
    """The passes that denoise are given another frame, level or action."""
    return _stream(_guided=lambda self, *given: GUIDED(self, *change(self, *given)))


def _previous_action(self: Stream, frame: Tensor, level: Tensor, actions: Tensor | None) -> tuple[Any, ...]:
    known = self.__dict__.setdefault("known", [])
    if not known or known[-1] is not actions:
        known.append(actions)
    return frame, level, known[-2] if len(known) > 1 else actions


def _commits_drafts(self: Stream, frame: Tensor, level: Tensor, actions: Tensor | None) -> Tensor:
    output = GUIDED(self, frame, level, actions)
    _, self.state = self.world.forward_streamed(
        self.state, frame, level, actions, commit=True, **self.conditions
    )
    return output


def _with_attributes(method: Method, **attributes: Callable[[Stream], Any]) -> Method:
    def changed(self: Stream, *args: Any, **kwargs: Any) -> Any:
        with _as(self, **{name: of(self) for name, of in attributes.items()}):
            return method(self, *args, **kwargs)

    return changed


def _without_conditions(stream: Stream) -> dict[str, Any]:
    return {}


denoises_with_previous_action = _denoises(_previous_action)
denoises_without_action = _denoises(lambda self, frame, level, actions: (frame, level, None))
denoises_with_actions_of_other_clip = _denoises(
    lambda self, frame, level, actions: (frame, level, None if actions is None else actions.flip(0))
)
denoises_without_past = _stream(_guided=_with_attributes(GUIDED, past=lambda self: Past(_empty(self))))
denoises_without_conditions = _stream(_guided=_with_attributes(GUIDED, conditions=_without_conditions))
drafts_kept = _stream(_guided=_commits_drafts)
blocks_actions_shifted = _denoises(
    lambda self, frame, level, actions: (frame, level, None if actions is None else actions.roll(1, 1))
)


# -------------------------------------------------------------------------------------------- history


def _observes(
    added: Callable[[Stream, float], float] = lambda self, level: level,
    told: Callable[[Stream, float], float] = lambda self, level: level,
    chosen: Callable[[Stream], float | None] = lambda self: self.sampling.context_noise,
    noise: Method = lambda self, latents: self._noise(latents),
) -> Changed:
    """`Stream._as_history`, where history is noised to a level that is not the asked one, or told another one."""

    def as_history(self: Stream, latents: Tensor, actions: Tensor | None) -> SeenBlock:
        given = chosen(self)
        history = float(self.world.noise.history_level if given is None else given)
        latents = latents.to(self.world.dtype)
        noisy = self.world.noise.add_noise(
            latents, noise(self, latents), torch.full(latents.shape[:2], added(self, history))
        )
        level = torch.full(latents.shape[:2], told(self, history))
        return SeenBlock(noisy, level, self._cast(actions))

    return _stream(_as_history=as_history)


def _only_given_frames(self: Stream, latents: Tensor, actions: Tensor | None) -> SeenBlock:
    """Frames that were generated become history without noise."""
    generated = replace(self.sampling, context_noise=0.0)
    given = hasattr(self, "generating")
    with _as(self, sampling=generated if given else self.sampling):
        return AS_HISTORY(self, latents, actions)


def _generating(self: Stream, actions: Tensor | None = None) -> Any:
    self.generating = True  # type: ignore[attr-defined]
    try:
        return STEP_BLOCK(self, actions)
    finally:
        del self.generating  # type: ignore[attr-defined]


def _same_noise_for_history(self: Stream, latents: Tensor) -> Tensor:
    return torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)


history_told_clean = _observes(told=lambda self, level: 0.0)
history_not_noised = _observes(added=lambda self, level: 0.0)
history_at_max_level = _observes(chosen=lambda self: self.world.noise.max_level)
context_noise_ignored = _observes(chosen=lambda self: None)
context_noise_halved = _observes(
    chosen=lambda self: self.sampling.context_noise and self.sampling.context_noise / 2
)
no_context_noise_taken_for_unasked = _observes(chosen=lambda self: self.sampling.context_noise or None)
unasked_taken_for_no_context_noise = _observes(chosen=lambda self: self.sampling.context_noise or 0.0)
history_always_noised_the_same = _observes(noise=_same_noise_for_history)
generated_frames_not_noised = _stream(_as_history=_only_given_frames, step_block=_generating)
observes_without_actions = _stream(_as_history=lambda self, latents, actions: AS_HISTORY(self, latents, None))
observes_without_conditions = _stream(observe=_with_attributes(OBSERVE, conditions=_without_conditions))
observes_all_but_first_block = _stream(
    observe=lambda self, latents, actions=None: OBSERVE(
        self,
        *(
            x
            if x is None or latents.shape[1] == self.world.frames_per_block
            else x[:, self.world.frames_per_block :]
            for x in (latents, actions)
        ),
    )
)


# ---------------------------------------------------------------------------------- noise and numbers


def _reseeded(self: Stream, like: Tensor) -> Tensor:
    self.generator.manual_seed(self.generator.initial_seed())
    return NOISE(self, like)


def _seedless(
    self: Stream, world: Any, state: Any, size: Any, sampling: Any, seed: int, *others: Any
) -> None:
    INIT(self, world, state, size, sampling, 0, *others)


def _cast_by(change: Callable[[Tensor], Tensor]) -> Changed:
    return _stream(
        _cast=lambda self, actions: None if actions is None else change(actions).to(self.world.dtype)
    )


same_noise_every_time = _stream(_noise=_reseeded)
same_noise_in_all_rollouts = _stream(_noise=lambda self, like: NOISE(self, like)[:1].expand_as(like).clone())
same_noise_in_all_channels = _stream(
    _noise=lambda self, like: NOISE(self, like)[:, :, :1].expand_as(like).clone()
)
noise_uniform = _stream(
    _noise=lambda self, like: 3.4641 * (torch.rand(like.shape, generator=self.generator) - 0.5).to(like)
)
seed_ignored = _stream(__init__=_seedless)
actions_rounded = _cast_by(torch.round)
actions_in_half_precision = _cast_by(Tensor.bfloat16)
actions_clamped = _cast_by(lambda actions: actions.clamp(-1, 1))


tokens_of_another_size = _stream(
    step_block=_with_attributes(STEP_BLOCK, tokens=lambda self: 64 * self.tokens),
)
starts_too_quiet: Changed = {
    of: {"start": lambda self, noise, _start=of.start: 0.9 * _start(self, noise)}
    for of in (LineSampler, SolverSampler)
}


# ------------------------------------------------------------------------------------------- guidance


def _guides(combined: Callable[[Tensor, Tensor, float], Tensor]) -> Changed:
    """Another formula of output, output without the action, and s."""
    return _guides_with(lambda dropped: dropped, combined)


def _guides_with(
    dropping: Callable[[Tensor], Tensor] = lambda dropped: dropped,
    combined: Callable[[Tensor, Tensor, float], Tensor] = lambda output, without, s: (
        without + s * (output - without)
    ),
    state: Callable[[Stream], Any] = lambda self: self.state,
    conditions: Callable[[Stream], dict[str, Any]] = lambda self: self.conditions,
    applies: Callable[[Stream, Tensor], bool] = lambda self, level: self.sampling.guidance != 1,
) -> Changed:
    def guided(self: Stream, frame: Tensor, level: Tensor, actions: Tensor | None) -> Tensor:
        output, _ = self.world.forward_streamed(self.state, frame, level, actions, **self.conditions)
        if actions is None or not applies(self, level):
            return output
        dropped = dropping(torch.ones_like(level, dtype=torch.bool))
        without, _ = self.world.forward_streamed(
            state(self), frame, level, actions, dropped, **conditions(self)
        )
        return combined(output, without, self.sampling.guidance)

    return _stream(_guided=guided)


def _observes_twice(self: Stream, latents: Tensor, actions: Tensor | None = None) -> None:
    """Keep a second state of the same history, all of its actions dropped."""
    noise = self.generator.get_state()
    bare = getattr(self, "bare", self.state)
    with _as(self, past=Past(bare)):
        OBSERVE(self, latents)
        bare = self.state
    self.bare = bare  # type: ignore[attr-defined]
    self.generator.set_state(noise)
    OBSERVE(self, latents, actions)


def _first_clip(dropped: Tensor) -> Tensor:
    return dropped & (torch.arange(len(dropped)) == 0)[:, None]


guidance_ignored = _guides_with(applies=lambda self, level: False)
guidance_below_one_ignored = _guides_with(applies=lambda self, level: self.sampling.guidance > 1)
guidance_above_one_ignored = _guides_with(applies=lambda self, level: self.sampling.guidance < 1)
guidance_at_first_level_only = _guides_with(
    applies=lambda self, level: (
        self.sampling.guidance != 1
        and bool(level.max() == self.world.noise.sampler(self.sampling.steps, self.tokens).levels[0])
    )
)
guidance_of_the_other_sign = _guides(lambda output, without, s: output + s * (without - output))
guidance_one_too_strong = _guides(lambda output, without, s: output + s * (output - without))
guidance_from_zero = _guides(lambda output, without, s: s * (output - without))
guidance_drops_nothing = _guides_with(torch.zeros_like)
guidance_in_first_clip_only = _guides_with(_first_clip)
guidance_without_past = _guides_with(state=_empty)
guidance_without_conditions = _guides_with(conditions=_without_conditions)
guidance_drops_all_actions = {
    Stream: _guides_with(state=lambda self: getattr(self, "bare", self.state))[Stream]
    | {"observe": _observes_twice}  # type: ignore[attr-defined]
}


# ----------------------------------------------------------------------------------- history guidance


def _scaled(change: Callable[[float], float]) -> Changed:
    """Another scale of history guidance than the asked one."""

    def guided(self: Stream, *given: Any) -> Any:
        if self.sampling.history_guidance == 1:
            return GUIDED(self, *given)
        scale = change(self.sampling.history_guidance)
        with _as(self, sampling=replace(self.sampling, history_guidance=scale)):
            output = GUIDED(self, *given)
            past = self.past
        self.past = past
        return output

    return _stream(_guided=guided)


def _as_other(change: Method) -> Changed:
    """Another of how the other history is shown."""
    return _stream(_as_other_history=lambda self, latents, actions: change(self, latents, actions))


def _other_at(level: Callable[[Stream], float | None]) -> Changed:
    """Another level of the other history than the asked one."""

    def as_other(self: Stream, latents: Tensor, actions: Tensor | None) -> SeenBlock:
        with _as(self, sampling=replace(self.sampling, history_guidance_noise=level(self))):
            return AS_OTHER(self, latents, actions)

    return _as_other(as_other)


def _not_noised(self: Stream, latents: Tensor, actions: Tensor | None) -> SeenBlock:
    return replace(AS_OTHER(self, latents, actions), latents=latents.to(self.world.dtype))


def _told_as_history(self: Stream, latents: Tensor, actions: Tensor | None) -> SeenBlock:
    shown, given = AS_OTHER(self, latents, actions), self.sampling.context_noise
    level = self.world.noise.history_level if given is None else given
    return replace(shown, level=torch.full_like(shown.level, level))


def _with_the_noise_of_history(self: Stream, latents: Tensor, actions: Tensor | None) -> Past:
    generator = self.generator.get_state()
    past = SEEN(self, latents, actions)
    if past.other is None:
        return past
    after = self.generator.get_state()
    self.generator.set_state(generator)
    other = replace(past.other, waiting=AS_OTHER(self, latents, actions))
    self.generator.set_state(after)
    return replace(past, other=other)


def _only_observed(self: Stream, latents: Tensor, actions: Tensor | None) -> Past:
    """What is generated is not written into the other history."""
    past = SEEN(self, latents, actions)
    if past.other is None or not hasattr(self, "generating"):
        return past
    return replace(past, other=replace(past.other, waiting=None))


def _swapped(self: Stream, latents: Tensor, actions: Tensor | None) -> Past:
    past = SEEN(self, latents, actions)
    if past.other is None:
        return past
    return replace(past.other, other=replace(past, other=None))


def _one_guidance_only(self: Stream, frame: Tensor, level: Tensor, actions: Tensor | None) -> Tensor:
    """With history guidance there is no action guidance."""
    if self.sampling.history_guidance == 1:
        return GUIDED(self, frame, level, actions)
    own = self.sampling
    self.sampling = replace(own, guidance=1.0)
    try:
        return GUIDED(self, frame, level, actions)
    finally:
        self.sampling = own


def _empty_pasts(stream: Stream) -> Past:
    """Both before the first frame."""
    return Past(_empty(stream), other=None if stream.past.other is None else Past(_empty(stream)))


history_guidance_ignored = _scaled(lambda scale: 1.0)
history_guidance_of_the_other_sign = _scaled(lambda scale: 2 - scale)
history_guidance_one_too_strong = _scaled(lambda scale: scale + 1)
other_history_not_noised = _as_other(_not_noised)
other_history_told_as_history = _as_other(_told_as_history)
other_history_at_max_level = _other_at(lambda self: None)
other_history_at_historys_level = _other_at(lambda self: self.world.noise.history_level)
unasked_level_of_other_history_halved = _other_at(
    lambda self: self.sampling.history_guidance_noise or self.world.noise.max_level / 2
)
other_history_without_actions = _as_other(lambda self, latents, actions: AS_OTHER(self, latents, None))
other_history_with_the_noise_of_history = _stream(_seen=_with_the_noise_of_history)
other_history_holds_only_observed = _stream(_seen=_only_observed, step_block=_generating)
histories_swapped = _stream(_seen=_swapped)
other_history_without_newest_action = _stream(
    _from_other_history=lambda self, frame, level, actions: FROM_OTHER(self, frame, level, None)
)
history_guidance_in_place_of_guidance = _stream(_guided=_one_guidance_only)


# ------------------------------------------------------------------------------------------- branches


def _branches(change: Callable[[Stream, Stream, int | None], Any]) -> Changed:
    def branch(self: Stream, seed: int | None = None) -> Stream:
        twin = BRANCH(self, seed)
        return change(self, twin, seed) or twin  # type: ignore[no-any-return]

    return _stream(branch=branch)


def _shares_generator(stem: Stream, twin: Stream, seed: int | None) -> None:
    if seed is None:
        twin.generator = stem.generator


branch_is_the_stem = _branches(lambda stem, twin, seed: stem)
branch_shares_generator = _branches(_shares_generator)
branch_forgets_past = _branches(lambda stem, twin, seed: setattr(twin, "past", _empty_pasts(stem)))
branch_forgets_other_history = _branches(
    lambda stem, twin, seed: setattr(twin, "past", replace(Past(stem.state), other=_empty_pasts(stem).other))
)
branch_ignores_seed = _branches(
    lambda stem, twin, seed: twin.generator.set_state(stem.generator.get_state()) and None
)
branch_takes_seed_zero_for_none = _branches(
    lambda stem, twin, seed: None if seed else twin.generator.set_state(stem.generator.get_state()) and None
)
branch_begins_noise_again = _branches(
    lambda stem, twin, seed: (
        twin.generator.manual_seed(stem.generator.initial_seed()) and None if seed is None else None
    )
)
branch_without_conditions = _branches(lambda stem, twin, seed: setattr(twin, "conditions", {}))
branch_with_other_sampling = _branches(
    lambda stem, twin, seed: setattr(twin, "sampling", replace(stem.sampling, steps=stem.sampling.steps + 1))
)
branch_without_guidance = _branches(
    lambda stem, twin, seed: setattr(twin, "sampling", replace(stem.sampling, guidance=1.0))
)
branch_without_history_guidance = _branches(
    lambda stem, twin, seed: setattr(twin, "sampling", replace(stem.sampling, history_guidance=1.0))
)
