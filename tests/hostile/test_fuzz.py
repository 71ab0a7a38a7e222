"""Whole files with random faults: they are read, or refused by a V2WError; nothing else happens, and not for long.

Always the same examples (derandomized). What is read may be any kind of nonsense: what matters is that readers hold.
"""

import json
import resource
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import CLASS
from tests.hostile.conftest import INDEX, TRIED
from tests.speed import seconds_here
from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.open import open_source
from v2w_convert.errors import V2WError
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.load import open_converted

budget = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# What a value is replaced by.
ODD = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "\x1b[31m", "../x",
         "\u202e", "\0", "x" * 5000, "e\u0301", "b t c h w", "in_channels", "9**99", "**", "[z-a]", [], {}, [[]], {"": None}]
    ),
    st.integers(-(10**6), 10**6),
    st.text(max_size=8),
    st.lists(st.integers(-3, 10**9), max_size=4),
)  # fmt: skip


@contextmanager
def harmless(kind: str, seconds: float = 1) -> Iterator[None]:
    """Success or V2WError of one line, within so many seconds of computing."""
    begun = time.process_time()
    try:
        yield
        TRIED["fuzzed: read"] += 1
    except V2WError as error:
        assert str(error).isprintable() and len(str(error)) < 15_000
        TRIED["fuzzed: refused"] += 1
    took = time.process_time() - begun
    assert took < seconds or took < seconds_here(seconds), kind


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """All examples together raise the peak of resident memory by less than 200 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where something lies in nested dicts and lists."""
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from paths(child, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, valid: Any) -> Any:
    """`valid` with up to three entries replaced, removed, renamed or put twice."""
    content = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in paths(content) if path] or [()]))
        if not path:
            return draw(ODD)
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        key = path[-1]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "wrap"])):
            case "replace":
                parent[key] = draw(ODD)
            case "remove":
                del parent[key]
            case "wrap":
                parent[key] = [parent[key], parent[key]]
            case "rename" if isinstance(parent, dict):
                parent[str(draw(ODD))] = parent.pop(key)
    return content


@st.composite
def spoiled(draw: st.DrawFn, valid: bytes) -> bytes:
    """`valid` with bytes replaced, cut out or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        stop = min(at + draw(st.integers(0, 9)), len(data))
        data[at:stop] = draw(
            st.binary(max_size=9) | st.sampled_from([b"{", b"[" * 300, b"\xff", b'"', b"9" * 5000, b": *a"])
        )
    return bytes(data)


ENTRIES: dict[str, Any] = {
    f"blocks.{n}.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [12 * n, 12 * n + 12]}
    for n in range(4)
}
VALID = json.dumps({"__metadata__": {"format": "pt"}, **ENTRIES}).encode()


def framed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + bytes(48)


@budget
@given(
    data=mutated(ENTRIES).map(lambda h: framed(json.dumps(h).encode()))
    | spoiled(framed(VALID))
    | spoiled(VALID).map(framed)
)
def test_fuzzed_headers_are_read_or_refused(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(data)
    with harmless("header"):
        read_header(file)


MAP = {"metadata": {"total_size": 48}, "weight_map": dict.fromkeys(ENTRIES, "a.safetensors")}


@budget
@given(text=mutated(MAP).map(lambda i: json.dumps(i).encode()) | spoiled(json.dumps(MAP).encode()))
def test_fuzzed_indexes_are_read_or_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": CLASS}))
    (tmp_path / "a.safetensors").write_bytes(framed(VALID))
    (tmp_path / INDEX).write_bytes(text)
    with harmless("index"):
        open_source(tmp_path)


PLAN = shipped_plans()["stable-video-diffusion"].read_text()
FITTING = plan_for(CLASS)


@budget
@given(text=mutated(yaml.safe_load(PLAN)).map(yaml.safe_dump).map(str.encode) | spoiled(PLAN.encode()))
def test_fuzzed_plans_are_read_or_refused(text: bytes, tmp_path: Path) -> None:
    """Read, and applied to the base's own config."""
    (tmp_path / "plan.yaml").write_bytes(text)
    plan = None
    with harmless("plan"):
        plan = read_plan(tmp_path / "plan.yaml")
    if plan is not None:
        with harmless("plan applied", 10):
            resolve(plan, {"_class_name": CLASS, **FITTING.tiny})


def fuzzed_file(file: Path, text: bytes, read: Callable[[], Any]) -> None:
    whole = file.read_bytes()
    file.write_bytes(text)
    try:
        with harmless(file.name, 10):
            read()
    finally:
        file.write_bytes(whole)


@settings(budget, max_examples=200)
@given(data=st.data())
def test_fuzzed_manifests_are_read_or_refused(data: st.DataObject, converted: Path) -> None:
    """A copy of a converted folder whose v2w.json, config.json or scheduler's config is spoiled."""
    names = ["v2w.json", "v2w.json", "unet/config.json", "scheduler/scheduler_config.json"]
    file = converted / data.draw(st.sampled_from(names))
    valid = json.loads(file.read_text())
    valid.pop("tensors", None)  # hundreds of entries alike
    change = mutated(valid).map(lambda m: json.dumps(m).encode()) | spoiled(json.dumps(valid).encode())
    fuzzed_file(file, data.draw(change), lambda: open_converted(converted))


@settings(budget, max_examples=40)
@given(data=st.data())
def test_fuzzed_configs_are_read_or_refused(
    data: st.DataObject, tiny_base: Path, whole: Path, tmp_path: Path
) -> None:
    """A base's config and scheduler, as `inspect` resolves them."""
    config = json.loads((whole / "plain" / "config.json").read_text())
    scheduler = json.loads((tiny_base / "scheduler/scheduler_config.json").read_text())
    spoil_config = data.draw(st.booleans())
    with harmless("config", 10):
        if spoil_config:
            config = data.draw(mutated(config))
        else:
            scheduler = data.draw(mutated(scheduler))
        if isinstance(config, dict) and isinstance(scheduler, dict):
            resolve(FITTING, config, scheduler)
