"""The figures of `evaluate` as tables for the terminal."""

from collections.abc import Iterator
from typing import NamedTuple

from v2w_convert.evaluation.result import EvaluateResult, FrameQuality, Interval


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
    yield Table("actions and long-horizon stability", ["", "mean [95 % interval]"], _other_rows(result))


def _horizon_rows(result: EvaluateResult) -> list[list[str]]:
    samples = result.settings["samples"]
    figures = list(result.horizons.values())
    rows = [
        ["PSNR (dB)", *(_text(x.psnr) for x in figures)],
        ["SSIM", *(_text(x.ssim) for x in figures)],
        [f"PSNR (dB) of the mean of {samples}", *(_text(x.psnr_of_mean) for x in figures)],
        [f"SSIM of the mean of {samples}", *(_text(x.ssim_of_mean) for x in figures)],
    ]
    baselines: dict[str, dict[int, FrameQuality]] = {
        "last frame copied": result.baselines.last_frame_copied,
        "autoencoder alone": result.baselines.autoencoder_alone,
        "other actions": result.baselines.other_actions,
    }
    for name, by_horizon in baselines.items():
        rows.append([f"PSNR (dB), {name}", *(_text(x.psnr) for x in by_horizon.values())])
        rows.append([f"SSIM, {name}", *(_text(x.ssim) for x in by_horizon.values())])
    return rows


def _other_rows(result: EvaluateResult) -> list[list[str]]:
    gaps = result.actions.psnr_gap
    rows = [[f"PSNR gap at {x} (dB), true minus other actions", _text(gap)] for x, gap in gaps.items()]
    if accuracy := result.actions.inverse_dynamics:
        rows += [
            ["inverse dynamics, real frames", _text(accuracy.real)],
            ["inverse dynamics, round-tripped frames", _text(accuracy.round_tripped)],
            ["inverse dynamics, generated frames", _text(accuracy.generated)],
            ["inverse dynamics, majority class", f"{accuracy.majority_class:.3f}"],
        ]
    else:
        rows.append(["inverse dynamics", f"not measured: {result.actions.inverse_dynamics_reason}"])
    if long := result.long_horizon:
        what = f"{long.frames}-frame rollouts, share within"
        rows += [
            [f"{what} real frames", _text(long.within_real)],
            [f"{what} round-tripped frames", _text(long.within_round_tripped)],
        ]
    return rows


def _text(figure: Interval) -> str:
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
