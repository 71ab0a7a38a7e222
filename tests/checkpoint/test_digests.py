"""Digests of files, whole and by tensor."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from v2w_convert.checkpoint import digests
from v2w_convert.checkpoint.digests import (
    ALGORITHM,
    all_recorded,
    digest_ranges,
    file_digest,
    is_recorded,
    known_sha256,
    of_pieces,
    pieces,
)
from v2w_convert.errors import V2WError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(
        {"a": torch.arange(6.0), "empty": torch.zeros(0, 3), "b": torch.ones(2, 2)},
        tmp_path / "a.safetensors",
    )
    return tmp_path / "a.safetensors"


def test_known_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = {
        "blake3": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",  # of its specification's tests
        "sha256": hashlib.sha256(b"abc").hexdigest(),
    }
    assert file_digest(tmp_path / "a") == f"{ALGORITHM}:{expected[ALGORITHM]}"
    for recorded in (
        f"{ALGORITHM}:{expected[ALGORITHM]}",
        f"sha256:{expected['sha256']}",
        expected["sha256"],
    ):
        assert is_recorded(tmp_path / "a", recorded)
        assert not is_recorded(tmp_path / "a", recorded[:-1] + "0")
        assert not is_recorded(tmp_path / "b", recorded)


def test_a_weight_file_is_cut_at_its_tensors(file: Path) -> None:
    size = file.stat().st_size
    assert pieces(file) == [(0, size - 40), (size - 40, size - 16), (size - 16, size)]
    torch.save({"a": torch.arange(6.0), "b": torch.ones(2)}, file.with_suffix(".bin"))
    cuts = pieces(file.with_suffix(".bin"))
    assert {24, 8} <= {stop - start for start, stop in cuts}
    assert cuts[0][0] == 0 and cuts[-1][1] == file.with_suffix(".bin").stat().st_size
    assert all(a[1] == b[0] for a, b in zip(cuts, cuts[1:], strict=False))


def test_any_changed_byte_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for recorded in (file_digest(file), of_pieces(digest_ranges(file, pieces(file)))):
        assert all_recorded({file: recorded})
        for at in range(len(content)):
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert not is_recorded(file, recorded), at
        for other in (content[:-1], content + b"\0", b""):
            file.write_bytes(other)
            assert not is_recorded(file, recorded)
        file.write_bytes(content)


def test_without_the_package_others_digests_are_refused_by_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "ALGORITHM", "sha256")
    with pytest.raises(V2WError, match=r"the package blake3 is not installed \(try: pip install blake3\)"):
        is_recorded(file, "blake3:" + "0" * 64)


def test_the_hubs_cache_knows_a_files_sha256(file: Path, tmp_path: Path) -> None:
    for name, known in (("0" * 64, "0" * 64), ("0" * 40, None)):  # of a small file it has Git's digest
        blob = tmp_path / "models--a--b" / "blobs" / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"")
        link = tmp_path / f"{name}.safetensors"
        os.symlink(blob, link)
        assert known_sha256(link) == known
    assert known_sha256(file) is None
