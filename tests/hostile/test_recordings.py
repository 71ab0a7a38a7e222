"""Folders of recordings and HDF5 files that are bad are refused with one line; random faults are read or refused."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.recordings import table
from tests.data.rlds import framed
from tests.hostile.conftest import TRIED
from tests.hostile.datasets import Spoil, hdf5_files, recordings, rlds_files
from tests.hostile.test_datasets import assert_documented, timeout
from v2w_convert.data import DataSettings, open_dataset
from v2w_convert.errors import V2WError

KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Spoil], DataSettings]] = {
    "folders of videos": (recordings.write, recordings.VIDEOS, DataSettings()),
    "folders of pictures": (recordings.write_pictures, recordings.PICTURE_CASES, DataSettings(fps=9)),
    "HDF5": (hdf5_files.write, hdf5_files.CASES, DataSettings()),
    "RLDS": (rlds_files.write, rlds_files.CASES, DataSettings(fps=9)),
}


def outcome(folder: Path, settings: DataSettings) -> str:
    """ "read", "refused", or what else happened."""
    try:
        with timeout(), warnings.catch_warnings():
            warnings.simplefilter("error")
            data = open_dataset(folder, settings)
            assert data.fingerprint() and len(data.tasks) == len(data)
            assert [len(episode) for episode in data.episodes()] == data.lengths
    except V2WError as error:
        line = str(error)
        return "refused" if line.isprintable() and len(line) < 6000 else f"not one line: {line!r:.200}"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.200}"
    return "read"


def made(kind: str, place: Path) -> Path:
    if kind == "HDF5":
        pytest.importorskip("h5py")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return KINDS[kind][0](place / "set")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bad_ones_are_refused(kind: str, tmp_path: Path) -> None:
    _, cases, settings = KINDS[kind]
    assert outcome(made(kind, tmp_path / "whole"), settings) == "read"
    found = {}
    for name, spoil in cases.items():
        folder = made(kind, tmp_path / "place")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of who makes bad files on our behalf
            spoil(folder)
        found[name] = outcome(folder, settings)
    TRIED["refused as a data set"] += len(cases)
    assert not {name: what for name, what in found.items() if what != "refused"}
    assert_documented(f"data sets: {kind}", len(cases))


FLIPPED = {
    "folders of videos": recordings.FILES[:2],
    "folders of pictures": recordings.FILES[2:],
    "HDF5": (hdf5_files.FILE,),
    "RLDS": ("features.json", rlds_files.LAST),
}
TIMES = 60


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_random_faults_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    folder = made(kind, tmp_path / "place")
    if kind == "folders of pictures":  # smaller ones, so that faults hit more than pixels
        table(folder / recordings.PICTURES / "actions.csv", np.eye(5, 2))
    random = np.random.default_rng(0)
    found = set()
    for name in FLIPPED[kind]:
        whole = (folder / name).read_bytes()
        for _ in range(TIMES):
            content = bytearray(whole)
            for place in random.integers(0, len(content), int(random.integers(1, 5))):
                content[place] = int(random.integers(0, 256))
            if name == rlds_files.LAST:  # beyond the checksum, which would find every fault
                content = bytearray(framed(bytes(content[12:-4])))
            (folder / name).write_bytes(
                content[: int(random.integers(1, len(content) + 1))] if random.random() < 0.2 else content
            )
            found.add(outcome(folder, KINDS[kind][2]))
        (folder / name).write_bytes(whole)
    TRIED["read or refused"] += TIMES * len(FLIPPED[kind])
    assert found <= {"read", "refused"}
    assert_documented(f"data sets: {kind}, random faults", TIMES * len(FLIPPED[kind]))
