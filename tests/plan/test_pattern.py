import pytest

from v2w_convert.plan.pattern import matches, nearest_paths


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.b.c", False),
        ("a.**.c", "a.b.b.c", True),
        ("**.conv[12]", "x.y.conv1", True),
        ("**.conv[12]", "conv2", True),
        ("**.conv[12]", "x.conv3", False),
        ("**.conv[12]", "x.myconv1", False),
        ("time_embedding", "time_embedding", True),
        ("time_embedding", "x.time_embedding", False),
        ("a.b", "aXb", False),
        ("a.**", "a.b.c", True),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def test_nearest_folds_numbers() -> None:
    paths = [f"blocks.{i}.attn1" for i in range(40)] + ["norm_out"]
    assert nearest_paths("blocks.*.attention1", paths) == ["blocks.*.attn1"]
