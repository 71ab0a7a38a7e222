"""The page, its sentences and its chart."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from v2w_convert.evaluation.report.chart import draw_lines
from v2w_convert.evaluation.report.findings import findings
from v2w_convert.evaluation.report.page import page
from v2w_convert.evaluation.result import (
    ActionFigures,
    Baselines,
    DriftFigures,
    EvaluateResult,
    FrameQuality,
    FrechetFigures,
    HorizonFigures,
    Interval,
    InverseDynamicsFigures,
    LongHorizonFigures,
    SensitivityFigures,
    ShareWithin,
)

HOSTILE = "</code><script src=//x.test>alert('1')</script>&\x1b[31m\u202e`|\n# <img onerror=x>"
VOID = ("meta", "path", "polyline")


def interval(mean: float, width: float = 0.5) -> Interval:
    return Interval(mean, mean - width, mean + width)


def quality(psnr: float) -> dict[int, FrameQuality]:
    return {x: FrameQuality(interval(psnr - x / 10), interval(0.5), interval(0.2), None) for x in (1, 8)}


def result(name: str = "right") -> EvaluateResult:
    read = InverseDynamicsFigures(name, "r2", interval(0.9), interval(0.8), interval(0.6), 0.0)
    stretches = [
        DriftFigures(a, a + 9, interval(1 / a), interval(0.9 / a), {name: 0.5 / a}) for a in (1, 11, 21)
    ]
    share = ShareWithin(0.4, 0.3, 0.5, reference=0.96)
    mean = {"psnr_of_mean": interval(26), "ssim_of_mean": interval(0.6)}
    return EvaluateResult(
        world=name,
        data="data",
        clips=5,
        episodes=3,
        history=2,
        settings={"samples": 4, "camera": name},
        horizons={x: HorizonFigures(**vars(q), **mean) for x, q in quality(25).items()},
        baselines=Baselines(quality(22), quality(30), quality(21)),
        psnr_curves={
            x: [25.0, 24.0, 23.0]
            for x in ("generated", "last_frame_copied", "autoencoder_alone", "other_actions")
        },
        frechet={f"frechet[{name}]": FrechetFigures(80, 12, 1.5, 8.0, 0.5, 3.0)},
        not_measured={"dreamsim": "no network (--dreamsim FILE)"},
        actions=ActionFigures(
            psnr_gap={1: interval(1.2), 8: interval(0.2)},
            sensitivity=SensitivityFigures(
                5, interval(3), interval(9), {name: interval(7), "deaf": Interval(0, 0, 0)}
            ),
            inverse_dynamics=[read],
            inverse_dynamics_reason=None,
        ),
        long_horizon=LongHorizonFigures(30, 2, (1, 99), share, share, stretches),
    )


class Checked(HTMLParser):
    """Whether all that is opened is closed in turn, and what is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_loads_nothing_and_names_are_text() -> None:
    found = Checked(page(result(HOSTILE), {HOSTILE: b"video"}))
    assert found.loaded == ["data:video/mp4;base64,dmlkZW8="]
    assert not found.tags & {"script", "img", "link", "iframe"}
    assert {"video", "table", "svg"} <= found.tags


def test_what_was_not_measured_is_left_out() -> None:
    short = replace(result(), long_horizon=None, frechet={}, not_measured={})
    text = page(short, {})
    Checked(text)
    assert "Long rollouts" not in text and "Fréchet" not in text and "<video" not in text


def test_sentences() -> None:
    said = list(findings(result()))
    assert said[0].startswith(
        "1 frame ahead, generated frames have a PSNR of 24.90 dB. Copying the last frame has 21.90"
    )
    assert "another episode's actions cost 1.20 [0.70, 1.70] dB: actions are followed." in said[2]
    assert said[3] == "Frames do not change with deaf."
    assert "reads right from two frames reaches an R² of 0.60 on generated frames" in said[4]
    assert "40% of frames look like recorded ones" in said[5]
    weak = replace(result(), actions=replace(result().actions, psnr_gap={1: interval(0.1)}))
    assert "it is not shown that actions are followed" in list(findings(weak))[2]


@pytest.mark.parametrize("values", [[1.0, 2.5, 3.0], [5.0, 5.0, 5.0], [0.0, 0.0, 0.0], [-3e-4, 2e-4, 0.0]])
def test_lines_lie_within_the_chart(values: list[float]) -> None:
    drawn = str(draw_lines([1, 2, 3], [values], "label"))
    points = drawn.split('points="')[1].split('"')[0].split()
    across, up = zip(*(map(float, point.split(",")) for point in points), strict=True)
    assert list(across) == sorted(across) and 0 <= min(across) and max(across) <= 640
    assert 0 <= min(up) and max(up) <= 260
    assert (up[0] > up[1]) == (values[1] > values[0])  # larger values lie higher
