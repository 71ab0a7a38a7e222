"""`v2w verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from v2w_convert import api
from v2w_convert.cli.options import FILES, Converted, Json, output_option, takes_settings
from v2w_convert.verification.settings import VerifySettings

SHOWN = {"fails": "FAILS", "not measured": "-"}


@takes_settings
def verify(
    converted: Converted,
    settings: VerifySettings,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="BASE", help="what it was converted from", rich_help_panel=FILES),
    ] = None,
    output: Annotated[
        Path | None, output_option("REPORT", "folder for a page, pictures, report.json and a summary")
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            "--card", help="put the summary into the model card, CONVERTED/README.md", rich_help_panel=FILES
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Verify a converted model: measure every claim on its own weights.

    Exit 1 if a claim fails, 3 if none does but --budget left no time for all claims of the core. Without --base, claims
    that compare with the base are not measured.
    """
    from v2w_convert.console import print_result, show_progress

    with show_progress("verify") as progress:
        report = api.verify(converted, base, settings, report=output, card=card, progress=progress)
    show_report(report.as_json(), converted, output, card=card)
    if json:
        print_result(report, settings)
    return report.exit_code


def show_report(report: dict[str, Any], converted: Path, folder: Path | None, *, card: bool) -> None:
    """Print a report as a table, with what fails and where it was written."""
    from v2w_convert.console import print_line, print_table
    from v2w_convert.surgery.card import CARD
    from v2w_convert.text import fold_paths
    from v2w_convert.verification.report.wording import verdict

    claims = report["claims"]
    print_table(
        str(converted),
        ["", "claim", "measured", "allowed"],
        [
            (
                SHOWN.get(claim["status"], claim["status"]),
                claim["sentence"],
                _figure(claim["measured"]),
                _figure(claim["allowed"]),
            )
            for claim in claims
        ],
    )
    for claim in claims:
        if not claim["ok"]:
            where = ", ".join(fold_paths(claim["where"].split(", "))) or "no module could be blamed"
            print_line(f"FAILS: {claim['sentence']}: {where} ({claim['how']})", *claim["fix"].splitlines())
    print_line(f"{converted}: {verdict(claims)}")
    budget = report["figures"].get("budget", {})
    if left := budget.get("unmeasured"):
        minutes = budget["minutes"]
        print_line(f"not measured, because the budget of {minutes:g} minutes ran out: {', '.join(left)}")
    if report["missing"]:
        print_line(
            f"not verified: of the core, {', '.join(report['missing'])} must be measured; raise --budget"
        )
    if folder is not None:
        print_line(f"{folder / 'report.html'}: the report as a page, with pictures")
    if card:
        print_line(f"{converted / CARD}: has the summary")


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
