"""What becomes of a broken input: read, refused in one line, or a violation, with its reason."""

import contextlib
import io
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.conftest import TRIED
from tests.speed import seconds_here
from v2w_convert.cli import run
from v2w_convert.errors import V2WError

SECONDS, MEGABYTES = 10, 600  # of one input
WAIT = 120  # by the clock, for what would wait for ever
READ, REFUSED = "read", "refused"


class _Waited(BaseException):
    pass


def _waited(*_: object) -> None:
    raise _Waited


@contextlib.contextmanager
def _bounded(found: list[str]) -> Iterator[None]:
    """Within it no more computing and memory than an input may take; else a violation is added to `found`."""
    _clear_peak()
    before, begun = _peak(), time.process_time()
    previous = signal.signal(signal.SIGALRM, _waited)
    signal.alarm(WAIT)
    try:
        yield
    except _Waited:
        found.append("waits for ever")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    if (seconds := time.process_time() - begun) > SECONDS and seconds > seconds_here(SECONDS):
        found.append(f"took {seconds:.0f} s")
    if (grown := _peak() - before) > MEGABYTES:
        found.append(f"took {grown} MB")


def of_call(call: Callable[[], object]) -> str:
    """READ, REFUSED, or what was wrong."""
    outcome, found = READ, list[str]()
    with _bounded(found):
        try:
            call()
        except V2WError as error:
            outcome = REFUSED
            if not str(error).isprintable() or len(str(error)) > 15_000:
                found.append("not one printable line")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}"[:300])
    return _counted("; ".join(found) or outcome)


def of_command(*arguments: object, codes: tuple[int, ...] = (0, 2)) -> tuple[str, str]:
    """The same of `v2w …`, which may end with one of the codes, and what it says on standard error."""
    found, err, out, code = list[str](), io.StringIO(), io.StringIO(), 0
    with _bounded(found), contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        try:
            code = run([str(argument) for argument in arguments])
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}"[:300])
    said = err.getvalue()
    if code not in codes:
        found.append(f"exit {code}: {said[-300:]}")
    if code == 2:
        line = said.removesuffix("\n").rpartition("\n")[2]
        if not line.startswith("v2w: ") or not line.isprintable() or "Traceback" in said:
            found.append(f"not one printable line: {said[:300]!r}")
    return _counted("; ".join(found) or (REFUSED if code == 2 else READ)), said


def violations(outcomes: dict[str, str]) -> dict[str, str]:
    """Those that are neither read nor refused."""
    return {case: found for case, found in outcomes.items() if found not in (READ, REFUSED)}


ODD: list[Any] = [10**9, 10**7, 10**6, 0, -1, 0.5, float("nan"), float("inf"), "\x1b[31mx", [], [8] * 999, [[1]], {"a": 1}, True, None]  # fmt: skip
SIZES: list[Any] = [10**7, 10**5]


def spoiled(config: dict[str, Any], values: list[Any] = ODD) -> Iterator[tuple[str, dict[str, Any]]]:
    """The config with each entry, and each first and last number of a list, replaced by each of the values."""
    for key, entry in config.items():
        if key.startswith("_"):
            continue
        for value in values:
            yield f"{key}={value!r:.40}", config | {key: value}
            if isinstance(entry, list | tuple) and entry:
                yield f"{key}[0]={value!r:.40}", config | {key: [value, *entry[1:]]}
                yield f"{key}[-1]={value!r:.40}", config | {key: [*entry[:-1], value]}


def some(cases: Iterator[Any], count: int, seed: int = 0) -> list[Any]:
    """Always the same choice of the cases."""
    every = list(cases)
    return random.Random(seed).sample(every, min(count, len(every)))


def documented(kind: str) -> tuple[int, int]:
    """How many inputs of a kind were tried, and how many violations there were, as docs/hostile-input.md says."""
    lines = (Path(__file__).parents[2] / "docs/hostile-input.md").read_text(encoding="utf-8").splitlines()
    [row] = [line for line in lines if line.startswith(f"| {kind} |")]
    tried, violated = row.split("|")[2:4]
    return int(tried), int(violated)


def strict(file: Path) -> Any:
    """What a file of JSON, or of a line of it each, holds; NaN and infinities are errors."""

    def refuse(text: str) -> float:
        raise ValueError(f"{file}: {text}")

    text = file.read_text()
    lines = text.splitlines() if file.suffix == ".jsonl" else [text]
    return [json.loads(line, parse_constant=refuse) for line in lines]


def _counted(outcome: str) -> str:
    TRIED[outcome if outcome in (READ, REFUSED) else "a violation"] += 1
    return outcome


def _peak() -> int:
    """MB of resident memory at most since `_clear_peak`."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024


def _clear_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
