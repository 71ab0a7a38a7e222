import json
import os

import pytest

from v2w_convert import strict_json
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import parse_object, read_object


def test_an_object_is_read_as_the_json_module_reads_it():
    text = '{"a": [1, {"b": null}], "c": 1000000000000000019884624838656, "é": -1e308}'
    assert parse_object(text.encode()) == json.loads(text)


def test_infinity_is_read_where_diffusers_writes_it():
    assert parse_object(b'{"a": -Infinity}', infinity=True) == {"a": float("-inf")}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "'a' appears twice"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' appears twice"),
        (b"[1, 2]", "not a JSON object"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b'{"a": -' + b"9" * 32 + b"}", "a number of 33 digits"),
        (b'{"a": [1e999]}', "1e999, which is too large"),
        (b'{"a": NaN}', "NaN, which is no number"),
        (b'{"a": Infinity}', "Infinity, which is no number"),
        (b'{"a": -Infinity}', "-Infinity, which is no number"),
    ],
)
def test_anything_but_one_plain_object_is_refused(data, found):
    with pytest.raises(ValueError, match=found):
        parse_object(data)


def test_values_are_counted_before_they_are_parsed():
    assert parse_object(b'{"a": [1, {}]}', max_values=4) == {"a": [1, {}]}
    with pytest.raises(ValueError, match="more than 4 JSON values"):
        # The text would turn out not to be JSON.
        parse_object(b'{"a": [1, {}], oh', max_values=4)


def test_a_file_is_named_in_the_error(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    for make, found in [
        (lambda: None, "no such file"),
        (file.mkdir, "not a regular file"),
        (lambda: (file.rmdir(), os.mkfifo(file)), "not a regular file"),
        (lambda: (file.unlink(), file.write_text("[]")), "not a JSON object"),
        (
            lambda: (file.write_text("{}"), monkeypatch.setattr(strict_json, "MAX_BYTES", 1)),
            "over the limit of 1",
        ),
    ]:
        make()
        with pytest.raises(V2WError, match=f"read .*config.json: .*{found}"):
            read_object(file)
    monkeypatch.undo()
    assert read_object(file) == {}
