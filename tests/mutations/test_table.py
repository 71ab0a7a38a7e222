from dataclasses import replace

from tests.mutations.run import Verdict
from tests.mutations.table import page

CAUGHT = Verdict("no mask", "wan", "blocks.0", "causal", True, {}, "blocks.0", True, False, 1.0)
WRONG = replace(CAUGHT, model="sana", named="blocks.1", right=False)
SOUND = Verdict("unbroken", "wan, as shipped", "", "", True, {}, "", True, False, 1.0)


def test_each_mode_has_a_column_which_names_what_was_not_caught() -> None:
    lines = page([SOUND, CAUGHT, WRONG, replace(CAUGHT, brief=True)]).splitlines()
    assert "| normal | 2 | 2 | 1 | 1 | 1 |" in lines
    assert "| brief | 1 | 1 | 1 | 0 | 0 |" in lines
    assert "| no mask | `causal` | wan, sana | 1 of 2; not sana (blocks.0) | 1 |" in lines
    assert "| nothing | none | wan | 1 | left out |" in lines


def test_a_run_of_each_kind_once_says_so() -> None:
    assert "for each kind" not in page([CAUGHT])
    assert "one model, at one site, for each kind" in page([CAUGHT], once=True)
