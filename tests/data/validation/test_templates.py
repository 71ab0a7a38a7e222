import pytest

from v2w_convert.data.validation.templates import check_name, check_template, fill_template

NUMBERS = ("chunk_index", "file_index")


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "data/chunk-002/file-1234.parquet"),
        ("{video_key}/{chunk_index}-{file_index:09d}.mp4", "left/2-000001234.mp4"),
        ("data/all.parquet", "data/all.parquet"),
    ],
)
def test_fields_are_filled(template: str, path: str) -> None:
    filled = fill_template(check_template(template, NUMBERS), "left", chunk_index=2, file_index=1234)
    assert filled == path


@pytest.mark.parametrize(
    "template",
    ["{chunk_index:010d}", "{chunk_index:3d}", "{video_key:5}", "{x}", "{", "}", "{{video_key}}", "{chunk_index.real}", "{episode_index}", "/a", "a/../b", "a//b", "", "a\n"],
)  # fmt: skip
def test_everything_else_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"braces|outside|not a path"):
        check_template(template, NUMBERS)


def test_a_value_is_not_filled_again() -> None:
    assert fill_template("{video_key}", "{chunk_index}", chunk_index=1, file_index=1) == "{chunk_index}"


@pytest.mark.parametrize("name", ["a/b", "..", "", "x" * 201, "\x1b"])
def test_names(name: str) -> None:
    assert check_name("observation.images.front") == "observation.images.front"
    with pytest.raises(ValueError, match="slash"):
        check_name(name)
