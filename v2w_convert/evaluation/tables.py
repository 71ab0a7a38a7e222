"""The figures of `evaluate` as tables, for the terminal and the page."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from v2w_convert.evaluation.result import (
    EvaluateResult,
    FrameQuality,
    FrechetFigures,
    Interval,
    LongHorizonFigures,
)

NAMES = {
    "generated": "generated",
    "last_frame_copied": "last frame copied",
    "autoencoder_alone": "autoencoder alone",
    "other_actions": "other actions",
}
METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS", "dreamsim": "DreamSim"}
MEAN = "mean [95 % interval]"


class Table(NamedTuple):
    """A table of text: title, column names, rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(result: EvaluateResult) -> Iterator[Table]:
    """Yield the tables of `result`."""
    yield Table(
        "frames by horizon (video frames ahead): mean and 95 % interval over episodes",
        ["", *map(str, result.horizons)],
        _horizon_rows(result),
    )
    if result.frechet:
        yield Table(
            "Fréchet distances from the recorded frames",
            ["", "samples", *NAMES.values()],
            _frechet_rows(result),
        )
    yield Table("whether actions are followed", ["", MEAN], _action_rows(result))
    if result.actions.inverse_dynamics:
        yield Table(
            "actions read from two frames",
            ["", "measure", "real", "round-tripped", "generated", "ignoring actions"],
            [
                [
                    found.name,
                    found.measure,
                    *map(text, (found.real, found.round_tripped, found.generated)),
                    f"{found.ignoring_actions:.3f}",
                ]
                for found in result.actions.inverse_dynamics
            ],
        )
    if long := result.long_horizon:
        yield _long_table(long)
    if result.not_measured:
        yield Table("not measured", ["", "why"], [list(item) for item in result.not_measured.items()])


def text(figure: Interval) -> str:
    """A mean and its interval."""
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _horizon_rows(result: EvaluateResult) -> list[list[str]]:
    samples = result.settings["samples"]
    figures = list(result.horizons.values())
    rows = list(_quality_rows(result.horizons, ""))
    if samples > 1:
        rows += [
            [f"PSNR (dB) of the mean of {samples}", *(text(x.psnr_of_mean) for x in figures)],
            [f"SSIM of the mean of {samples}", *(text(x.ssim_of_mean) for x in figures)],
        ]
    for name, shown in NAMES.items():
        if name != "generated":
            rows += _quality_rows(getattr(result.baselines, name), f", {shown}")
    return rows


def _quality_rows(by_horizon: Mapping[int, FrameQuality], ending: str) -> Iterator[list[str]]:
    for metric, name in METRICS.items():
        found = [getattr(quality, metric) for quality in by_horizon.values()]
        if None not in found:
            yield [f"{name}{ending}", *map(text, found)]


def _frechet_rows(result: EvaluateResult) -> list[list[str]]:
    def row(name: str, found: FrechetFigures) -> list[str]:
        return [name, str(found.samples), *(f"{getattr(found, series):.4g}" for series in NAMES)]

    return [row(name, found) for name, found in result.frechet.items()]


def _action_rows(result: EvaluateResult) -> list[list[str]]:
    actions, changes = result.actions, result.actions.sensitivity
    rows = [
        [f"PSNR gap at {x} (dB), true minus other actions", text(gap)] for x, gap in actions.psnr_gap.items()
    ]
    what = "change of the next frames (grey levels)"
    rows += [
        [f"{what}, other noise", text(changes.other_noise)],
        [f"{what}, another episode's actions", text(changes.other_episode)],
        *([f"{what}, {name} alone", text(effect)] for name, effect in changes.parts.items()),
    ]
    if actions.inverse_dynamics_reason:
        rows.append(["actions read from two frames", f"not measured: {actions.inverse_dynamics_reason}"])
    return rows


def _long_table(long: LongHorizonFigures) -> Table:
    names = list(long.drift[0].inverse_dynamics) if long.drift else []
    rows = [
        [
            f"{stretch.first} to {stretch.last}",
            text(stretch.within_round_tripped),
            text(stretch.detail),
            *(f"{stretch.inverse_dynamics[x]:.3f}" if x in stretch.inverse_dynamics else "" for x in names),
        ]
        for stretch in long.drift
    ]
    blank = [""] * (len(names) + 1)
    rows += [
        ["all", text(long.within_round_tripped), *blank],
        ["all, within real frames", text(long.within_real), *blank],
    ]
    read = [f"{name} read" for name in names]
    return Table(
        f"{long.rollouts} rollouts of {long.frames} frames",
        ["frames", "share within round-tripped frames", "detail, of round-tripped frames", *read],
        rows,
    )
