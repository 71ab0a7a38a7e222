"""Bad data sets are refused before they are decoded: exit 2 and one line, or a V2WError; unusual ones are read."""

import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ACTIONS
from tests.data.coloured import episodes
from tests.hostile.conftest import TRIED, Refused, contents
from tests.hostile.datasets import Spoil, descriptions, places, rights, tables, videos
from tests.hostile.datasets.whole import CAMERA, DATA, EPISODES, FILES, INFO, VIDEO, column, info, write
from v2w_convert import ConvertSettings, convert
from v2w_convert.cli import run
from v2w_convert.data import Dataset, Episode, open_dataset, write_dataset
from v2w_convert.errors import V2WError

KINDS: dict[str, dict[str, Spoil]] = {
    "info.json": descriptions.CASES,
    "parquet": tables.CASES,
    "videos": videos.CASES,
    "links, pipes, devices": places.CASES,
}
DOCS = Path(__file__).parents[2] / "docs" / "hostile-input.md"
WAIT = 60  # seconds by the clock, for what would wait for ever


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not write there."""
    return write(tmp_path_factory.mktemp("data") / "whole")


@contextmanager
def timeout() -> Iterator[None]:
    """A reader that waits for ever, for a pipe, is interrupted."""

    def stop(*_: object) -> None:
        raise AssertionError(f"more than {WAIT} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(WAIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def everything(folder: Path) -> tuple[Dataset, list[Episode]]:
    """All that a data set can be asked for."""
    data = open_dataset(folder)
    assert (len(data), data.cameras, data.camera) == (3, [CAMERA], CAMERA)
    assert data.fingerprint() and data.action_names and data.fps
    assert len(data.tasks) == len(data)
    return data, list(data.episodes())


def alike(found: list[Episode]) -> bool:
    """Whether these are the whole data set's episodes. Frames are lossy, but flat colours 15 apart."""
    wanted = episodes()
    return len(found) == len(wanted) and all(
        np.array_equal(one.actions, other.actions)
        and one.tasks == ("test",)
        and one.frames.shape == other.frames.shape
        and np.abs(one.frames.astype(int) - other.frames).max() <= 5
        for one, other in zip(found, wanted, strict=True)
    )


@pytest.fixture(scope="module")
def world(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes the data set's two numbers an action."""
    folder = tmp_path_factory.mktemp("models") / "world"
    convert(tiny_base, folder, ConvertSettings(action_dim=2))
    return folder


def rollout(world: Path, data: Path, output: Path) -> list[object]:
    """The command that reads all of a data set and does the least with it."""
    return ["rollout", world, "--data", data, "-o", output, "--history", 1, "--frames", 1, "--steps", 1]


def test_the_whole_data_set_is_read(
    whole: Path, world: Path, home: Path, converts: Callable[..., str]
) -> None:
    assert alike(everything(whole)[1])
    converts(*rollout(world, whole, home / "out.gif"))


def spoiled(whole: Path, place: Path, spoil: Spoil) -> Path:
    """A spoiled copy of the whole data set, alone in a new `place`."""
    shutil.rmtree(place, ignore_errors=True)
    folder = shutil.copytree(whole, place / "set")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy and PyAV, who make bad files on our behalf
        spoil(folder)
    return folder


def violation(folder: Path) -> str | None:
    """What happened, where a bad data set was not refused by a V2WError of one line."""
    try:
        with timeout(), warnings.catch_warnings():
            warnings.simplefilter("error")
            everything(folder)
    except V2WError as error:
        line = str(error)
        return None if line.isprintable() and len(line) < 6000 else f"not one line: {line!r:.200}"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.200}"
    return "accepted"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_bad_data_set_is_refused(kind: str, whole: Path, home: Path) -> None:
    cases = KINDS[kind]
    found = {name: violation(spoiled(whole, home / "place", spoil)) for name, spoil in cases.items()}
    TRIED["refused as a data set"] += len(cases)
    assert not {name: what for name, what in found.items() if what}
    assert_documented(f"data sets: {kind}", len(cases))


@pytest.mark.slow
def test_bad_data_sets_are_refused_by_the_command_line(
    whole: Path, world: Path, home: Path, refused: Refused
) -> None:
    """Every 15th of them."""
    every = [spoil for cases in KINDS.values() for spoil in cases.values()][::15]
    for spoil in every:
        refused(*rollout(world, spoiled(whole, home / "place", spoil), home / "out.gif"))
    assert_documented("data sets: of those, by the command line", len(every))


@pytest.mark.parametrize("name", videos.HARMLESS)
def test_what_no_reader_needs_may_be_wrong(name: str, whole: Path, home: Path) -> None:
    folder = shutil.copytree(whole, home / "set")
    videos.HARMLESS[name](folder)
    assert alike(everything(folder)[1])


def assert_documented(kind: str, tried: int) -> None:
    """The page's table says how many were tried, and that none was a violation."""
    row = re.search(
        rf"^\| {re.escape(kind)} \| ([\d,]+) \| 0 \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert row, f"no row | {kind} | {tried} | 0 |"
    assert int(row.group(1).replace(",", "")) == tried


@pytest.mark.parametrize("name", rights.CASES)
def test_what_is_unusual_and_right_is_read(name: str, whole: Path, home: Path) -> None:
    folder = shutil.copytree(whole, home / "set")
    rights.CASES[name](folder)
    data, found = everything(folder)
    assert alike(found)
    assert data.lengths == [5, 9, 2] and data.fps == 9.0


def test_names_that_are_not_utf_8(whole: Path, home: Path) -> None:
    folder = Path(os.fsdecode(bytes(home) + b"/\xff\x1b[31m"))
    shutil.copytree(whole, folder)
    (folder / os.fsdecode(b"data/\xfe")).write_text("x")
    _, found = everything(folder)
    assert alike(found)
    (folder / VIDEO).unlink()
    with pytest.raises(V2WError) as refused:
        everything(folder)
    assert str(refused.value).isprintable()


def test_a_download_in_the_hubs_cache(whole: Path, home: Path) -> None:
    snapshot = home / "datasets--a--b/snapshots/0123"
    for file in (path for path in whole.rglob("*") if path.is_file()):
        name = file.relative_to(whole)
        blob = home / "datasets--a--b/blobs" / str(name).replace("/", "-")
        for path in (blob, snapshot / name):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        (snapshot / name).symlink_to(blob)
    assert alike(everything(snapshot)[1])


def test_an_action_of_one_number_is_a_column_of_numbers(home: Path) -> None:
    """As lerobot stores it."""
    folder = write(home / "set")
    info("features", "action", to={"dtype": "float32", "shape": [1], "names": ["x"]})(folder)
    column(DATA, "action", lambda values: [v[0] for v in values])(folder)
    found = everything(folder)[1]
    assert all(np.array_equal(a.actions, b.actions[:, :1]) for a, b in zip(found, episodes(), strict=True))


def test_lerobots_own_codec_is_read(home: Path) -> None:
    """AV1, whose encoders take 64 pixels at least."""
    folder = home / "set"
    large = [Episode(e.frames.repeat(4, 1).repeat(4, 2), e.actions) for e in episodes()]
    write_dataset(large, folder, fps=9, action_names=["x", "y"])
    (folder / VIDEO).write_bytes(videos.encoded("mp4", "libsvtav1", height=64, width=64))
    found = [episode.frames.astype(int) for episode in open_dataset(folder).episodes()]
    assert [frames.shape for frames in found] == [(t, 64, 64, 3) for t in (5, 9, 2)]
    assert all(np.abs(frames - 99).max() <= 5 for frames in found)


# What each command is given, where a data set goes.
COMMANDS: dict[str, list[Any]] = {
    "rollout": ["--frames", 1, "--steps", 1, "-o", "out.gif", "--data"],
    "evaluate": ["--steps", 1, "-o", "out.json", "--data"],
    "finetune": ["--steps", 1, "--frames", 2, "-o", "run", "--data"],
}
SPOILED: dict[str, tuple[Spoil, str]] = {
    "a template": (info("data_path", to="{chunk_index:3000000000d}"), f"{INFO}: data_path: "),
    "a description": (info("fps", to="9"), f"{INFO}: fps: "),
    "a length": (column(EPISODES, "length", lambda values: [9, 5, 2]), "meta/episodes: column"),
    "a type": (column(DATA, "index", lambda values: list(map(str, values))), f"{DATA}: column 'index' is of type string"),
    "a value": (tables.CASES["data action NaN"], f"{DATA}: column 'action', row 3"),
    "a link": (places.CASES[f"{VIDEO} is linked from outside"], "it is a link to "),
    "a pipe": (places.CASES[f"{DATA} is a pipe"], "not a regular file"),
    "a script": (videos.CASES["video is a concat script that leads outside"], f"{VIDEO}: it is damaged or not such a video"),
    "a size": (videos.CASES["video is larger"], "its frames are 32 x 32, the data set's 16 x 16"),
}  # fmt: skip


@pytest.fixture
def data(home: Path) -> Path:
    """A data set of as many actions as the tiny model takes."""
    folder = write(home / "set")
    actions = [[float(i == v[0] % ACTIONS) for i in range(ACTIONS)] for v in ([k] for k in range(16))]
    column(DATA, "action", lambda _: actions, tables.pa.list_(tables.pa.float32(), ACTIONS))(folder)
    info("features", "action", to={"dtype": "float32", "shape": [ACTIONS], "names": None})(folder)
    return folder


@pytest.mark.parametrize("case", SPOILED)
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_bad_data(
    command: str,
    case: str,
    data: Path,
    tiny_converted: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    spoil, mention = SPOILED[case]
    spoil(data)
    refused(command, tiny_converted, *COMMANDS[command], data, mentions=[mention])


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_wrong_with_data_is_shown(
    case: str, data: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By `v2w data`, whose work it is: as the one line of a refusal, or as a fault."""
    spoil, mention = SPOILED[case]
    spoil(data)
    before = contents(home)
    code = run(["data", str(data), "--decode", "all"])
    out, err = capfd.readouterr()
    assert code in (1, 2) and not out
    assert mention in err and all(line.isprintable() for line in err.splitlines())
    assert contents(home) == before


def test_verify_refuses_bad_clips_before_it_measures(
    data: Path, tiny_base: Path, tiny_converted: Path, refused: Refused
) -> None:
    SPOILED["a length"][0](data)
    refused(
        "verify", tiny_converted, "--base", tiny_base, "--clips", data, mentions=["meta/episodes: column"]
    )


def test_the_kinds_cover_every_file() -> None:
    names = " ".join(name for cases in KINDS.values() for name in cases)
    assert all(file in names or Path(file).stem in names for file in FILES)
