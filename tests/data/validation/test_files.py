import os
from pathlib import Path

import pytest

from v2w_convert.data.validation.files import file_in, files_below
from v2w_convert.data.validation.memory import new_frames
from v2w_convert.errors import V2WError


def test_files_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data/deep").mkdir(parents=True)
    for name in ("data/deep/b", "data/a", "c"):
        (folder / name).write_text("x")
    assert list(files_below(folder, ("data", "nothing"))) == [folder / "data/a", folder / "data/deep/b"]
    assert file_in(folder, "c") == folder / "c"
    for name in ("../set/c/d", "data", "nothing"):
        with pytest.raises(V2WError, match=r"no such file|not a regular file"):
            file_in(folder, name)
    (tmp_path / "outside").mkdir()
    (folder / "data/link").symlink_to(tmp_path / "outside")
    with pytest.raises(V2WError, match="it is a link to"):
        list(files_below(folder, ("data",)))
    (folder / "data/link").unlink()
    os.mkfifo(folder / "data/pipe")
    with pytest.raises(V2WError, match="not a regular file"):
        list(files_below(folder, ("data",)))


def test_frames_that_do_not_fit_into_memory() -> None:
    assert new_frames((2, 3, 4, 3), "read", "frames").shape == (2, 3, 4, 3)
    with pytest.raises(V2WError, match=r"frames take 13835058055\.3 GB, and \d+\.\d GB are free"):
        new_frames((2**30, 2**31, 2, 3), "read", "frames")
