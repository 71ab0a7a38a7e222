"""Break hundreds of models, each in one way, and check that `verify` catches every one: `python -m tests.mutations`."""

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.mutations.run import in_modes, judged
from tests.mutations.suite import each_kind_once, suite
from tests.mutations.table import as_json, line, page

DOCS = Path(__file__).parents[2] / "docs" / "mutations.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--family", action="append", help="only models whose name begins with this")
    parser.add_argument("-k", metavar="WORDS", help="only mutations whose names contain this")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutations, evenly spaced")
    parser.add_argument("--each-kind-once", action="store_true", help="one model and one site of every kind")
    parser.add_argument(
        "--modes",
        choices=("normal", "brief", "both", "turns"),
        default="normal",
        help="how they are measured: brief as large models are; turns: one normal, the next brief",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all verdicts there")
    parser.add_argument("--docs", action="store_true", help=f"write {DOCS.name}, which describes the run")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    mutations = suite()
    if options.family:
        mutations = [m for m in mutations if m.model.startswith(tuple(options.family))]
    if options.k:
        mutations = [m for m in mutations if options.k in str(m)]
    if options.each_kind_once:
        mutations = each_kind_once(mutations)
    if options.sample:
        mutations = mutations[:: -(-len(mutations) // options.sample)]
    begin, verdicts = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        for verdict in judged(in_modes(mutations, options.modes), Path(folder), options.jobs):
            print(line(verdict), flush=True)
            verdicts.append(verdict)
    broken = [verdict for verdict in verdicts if verdict.claim]
    print(
        f"\n{len(broken)} broken models, {sum(v.caught for v in broken)} caught by the expected claim, "
        f"{sum(v.ok for v in broken)} with the right module; {len(verdicts) - len(broken)} unbroken, "
        f"{sum(v.ok for v in verdicts if not v.claim)} pass; {time.monotonic() - begin:.0f} s"
    )
    if options.json:
        options.json.write_text(json.dumps(as_json(verdicts), indent=1) + "\n", "utf-8")
    if options.docs:
        DOCS.write_text(page(verdicts, options.each_kind_once), "utf-8")
    return 0 if all(verdict.ok for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
