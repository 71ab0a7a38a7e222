"""Whole data sets with random faults: they are read, or refused by a V2WError; nothing else happens, and not for long.

The same faults in every run. What is read may be another number or picture: no file of a data set has a checksum.
"""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hostile.conftest import TRIED
from tests.hostile.datasets.whole import DATA, EPISODES, FILES, INFO, TASKS, write
from tests.hostile.test_datasets import assert_documented, everything, timeout
from tests.speed import seconds_here
from v2w_convert.errors import V2WError

BYTES, VALUES = 60, 40  # faults in each file
ODD = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**53,
    2**63 - 1,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    [],
    [[1.0]],
    b"\xff",
]


def bytes_spoiled(data: bytes, random: np.random.Generator) -> bytes:
    """Bits flipped, pieces cut out, zeroed, doubled or put in, or the end cut off."""
    found = bytearray(data)
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(len(found))) if found else 0
        stop = at + int(random.integers(1, 30))
        match random.integers(6):
            case 0 | 1:
                if found:
                    found[at] ^= 1 << int(random.integers(8))
            case 2:
                found[at:stop] = bytes(len(found[at:stop]))
            case 3:
                found[at:stop] = random.bytes(int(random.integers(30)))
            case 4:
                found[at:at] = found[at:stop]
            case _:
                del found[at : stop if random.random() < 0.7 else None]
    return bytes(found)


def value_spoiled(file: Path, random: np.random.Generator) -> None:
    """One entry of a file replaced, removed or renamed."""
    odd = ODD[random.integers(len(ODD))]
    if file.suffix == ".json":
        content = json.loads(file.read_text())
        parent = content
        while True:
            key = (
                list(parent)[random.integers(len(parent))]
                if isinstance(parent, dict)
                else int(random.integers(len(parent)))
            )
            child = parent[key]
            if not child or not isinstance(child, dict | list) or random.random() < 0.3:
                break
            parent = child
        if isinstance(parent, dict) and random.random() < 0.3:
            parent[f"{key}x"] = parent.pop(key)
        else:
            parent[key] = odd if not isinstance(odd, bytes) else "\udcff"
        file.write_text(json.dumps(content))
        return
    table = pq.read_table(file)
    name = table.column_names[random.integers(table.num_columns)]
    values = table[name].to_pylist()
    values[random.integers(len(values))] = odd
    place = table.column_names.index(name)
    try:
        table = table.set_column(place, name, pa.array(values))
    except (pa.ArrowException, OverflowError, TypeError):  # no column can have these values together
        table = table.set_column(place, name, pa.array([odd] * len(values)))
    pq.write_table(table, file)


@pytest.mark.slow
def test_fuzzed_data_sets_are_read_or_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole")
    tried, violations = 0, {}
    for file in FILES:
        for number in range(BYTES + (VALUES if file in (INFO, EPISODES, DATA, TASKS) else 0)):
            random = np.random.default_rng([FILES.index(file), number])
            folder = shutil.copytree(whole, tmp_path / "set")
            if number < BYTES:
                (folder / file).write_bytes(bytes_spoiled((folder / file).read_bytes(), random))
            else:
                value_spoiled(folder / file, random)
            begun = time.process_time()
            try:
                with timeout():
                    data, episodes = everything(folder)
                outcome = "read"
                assert [len(episode) for episode in episodes] == [5, 9, 2] or data.faults
            except V2WError as error:
                outcome = "refused"
                assert str(error).isprintable() and len(str(error)) < 6000
            except Exception as error:
                outcome = f"{type(error).__name__}: {error!s:.200}"
                violations[file, number] = outcome
            if (seconds := time.process_time() - begun) > 5 and seconds > seconds_here(5):
                violations[file, number] = f"{seconds} s"
            tried += 1
            TRIED[f"fuzzed: {outcome}"] += 1
            shutil.rmtree(folder)
    assert not violations
    assert_documented("data sets: random faults", tried)
