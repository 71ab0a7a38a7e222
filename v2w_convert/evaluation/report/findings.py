"""What the figures say, in a few sentences."""

from collections.abc import Iterator

from v2w_convert.evaluation.result import EvaluateResult, Interval


def findings(result: EvaluateResult) -> Iterator[str]:
    """Yield sentences for a reader who has not seen the figures."""
    near, far = min(result.horizons), max(result.horizons)
    for horizon in dict.fromkeys((near, far)):
        generated = result.horizons[horizon].psnr.mean
        copied = result.baselines.last_frame_copied[horizon].psnr.mean
        ceiling = result.baselines.autoencoder_alone[horizon].psnr.mean
        yield (
            f"{_ahead(horizon)}, generated frames have a PSNR of {generated:.2f} dB. "
            f"Copying the last frame has {copied:.2f} dB, the autoencoder alone {ceiling:.2f} dB."
        )
    gap = result.actions.psnr_gap[near]
    said = {True: "actions are followed", False: "it is not shown that actions are followed"}[gap.low > 0]
    yield f"{_ahead(near)}, another episode's actions cost {_interval(gap)} dB: {said}."
    effects = result.actions.sensitivity.parts
    if dead := [name for name, effect in effects.items() if effect.high == 0]:
        yield f"Frames do not change with {', '.join(dead)}."
    for found in result.actions.inverse_dynamics:
        yield (
            f"A network that reads {found.name} from two frames reaches {_measure(found.measure)} of "
            f"{found.generated.mean:.2f} on generated frames, {found.round_tripped.mean:.2f} on recorded ones that went "
            f"through the autoencoder; ignoring actions has {found.ignoring_actions:.2f}."
        )
    if long := result.long_horizon:
        share, reference = long.within_round_tripped.mean, long.within_round_tripped.reference
        last = long.drift[-1]
        yield (
            f"Of {long.frames}-frame rollouts, {share:.0%} of frames look like recorded ones that went through the "
            f"autoencoder, by brightness, contrast and detail; of those themselves, {reference:.0%}. Frames "
            f"{last.first} to {last.last} have {last.detail.mean:.0%} of the detail of those."
        )


def _ahead(frames: int) -> str:
    return f"{frames} frame{'' if frames == 1 else 's'} ahead"


def _interval(found: Interval) -> str:
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _measure(name: str) -> str:
    return {"r2": "an R²", "accuracy": "an accuracy"}.get(name, f"a {name}")
