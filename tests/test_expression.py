import pytest

from v2w_convert.expression import evaluate_int, evaluate_number

CONFIG = {"heads": 3, "width": 20, "axes": [4, 6, 6], "out": None, "on": True, "scale": 2.0}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (7, 7),
        ("7", 7),
        ("heads", 3),
        ("axes[1]", 6),
        ("heads * width // 6", 10),
        ("width - 4 * (width // 6)", 8),
        ("out or width", 20),
    ],
)
def test_whole_numbers(said: int | str, meant: int) -> None:
    assert evaluate_int(said, CONFIG) == meant


def test_other_numbers() -> None:
    assert evaluate_number("24 / 30", {}) == 0.8
    assert evaluate_number("10 * scale ** (8 / 6)", CONFIG) == 10 * 2.0 ** (8 / 6)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("depth", "the base's config has no 'depth'"),
        ("width / 3", "not a whole number"),
        ("on", "not a number"),
        ("axes", "not a number"),
        ("axes[3]", "out of range"),
        ("width // 0", "by zero"),
        ("10 ** 10 ** 10", "too large a power"),
        ("__import__('os')", "is not a number, a name"),
        ("width.real", "is not a number, a name"),
        ("[width][0]", "is not a number, a name"),
        ("width +", "cannot be worked out"),
        ("(" * 150 + "1" + ")" * 150, "longer than"),
    ],
)
def test_what_is_no_number_is_refused(said: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        evaluate_int(said, CONFIG)
