"""Every number of every family's config, as large as one may be: no table is filled before its size is known."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.conftest import TRIED
from tests.hostile.outcomes import SIZES, documented, of_call, some, spoiled, violations
from tests.tiny import tiny_plan, tiny_resolved
from v2w_convert.errors import V2WError, one_line
from v2w_convert.families.build import build_empty, build_model, require_shapes
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import shipped_plans
from v2w_convert.plan.resolve import resolve

LIMIT = 6 * 2**30  # bytes of address space: what exhausts it is an error, and not the machine's end
ROPES = {"wan": "rope_max_seq_len", "skyreels-v2": "rope_max_seq_len", "sana-video": "rope_max_seq_len"}


def cases(plan: Plan, values: list[Any] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    config = {"_class_name": plan.base, **plan.tiny}
    whole = dict(resolve(plan, config).config)
    for case, spoilt in spoiled(whole, values or SIZES):
        yield f"{plan.name} {case}", spoilt


def load(plan: Plan, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    """As a converted folder is loaded: its plan on its config, its weights' sizes, the model with its tables."""
    resolved = resolve(plan, config)
    try:
        require_shapes(build_empty(plan.base, resolved.config), shapes)
    except ValueError as error:
        raise V2WError("load", one_line(error)) from None
    build_model(plan.base, resolved.config, unfilled=True)


def outcomes(count: int, names: list[str]) -> dict[str, str]:
    found = {}
    for seed, name in enumerate(names):
        plan = tiny_plan(name)
        shapes = {key: tuple(x.shape) for key, x in tiny_resolved(name).base.named_parameters()}
        for case, config in some(cases(plan), count, seed):
            found[case] = of_call(lambda p=plan, c=config, s=shapes: load(p, c, s))  # type: ignore[misc]
    return found


@pytest.mark.parametrize("name", ROPES)
def test_a_rotary_table_of_ten_million_frames_is_refused(name: str) -> None:
    plan = tiny_plan(name)
    with pytest.raises(V2WError, match="its tables, such as .*, would take"):
        resolve(plan, {"_class_name": plan.base, **plan.tiny, ROPES[name]: 10**7})


def test_some_numbers_of_every_family_are_read_or_refused() -> None:
    assert not violations(outcomes(1, sorted(shipped_plans())[::3]))


@pytest.mark.slow
def test_numbers_of_every_family_do_not_exhaust_the_memory() -> None:
    """In a process of its own, whose address space is limited."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.test_tables", "6"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    TRIED["read or refused within 6 GB"] += told["tried"]
    assert not told["violations"]
    assert documented("converted folders: numbers of a config") == (told["tried"], 0)


if __name__ == "__main__":
    import logging
    import resource
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    found = outcomes(int(sys.argv[1]), sorted(sys.argv[2:] or shipped_plans()))
    print(json.dumps({"tried": len(found), "violations": violations(found)}))
