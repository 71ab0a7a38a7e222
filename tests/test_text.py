from v2w_convert.text import fold_paths


def test_paths_that_differ_in_numbers_are_one_line() -> None:
    assert fold_paths(["a.0.b", "a.1.b", "a.2.b", "c"]) == {"a.{0…2}.b": 3, "c": 1}


def test_gaps_are_shown() -> None:
    assert fold_paths(["a.0.b", "a.3.b"]) == {"a.{0,3}.b": 2}
