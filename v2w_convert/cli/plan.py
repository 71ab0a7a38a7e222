"""`v2w plan`."""

from pathlib import Path
from typing import Annotated

from v2w_convert import api
from v2w_convert.cli.options import Base, Json, output_option


def plan(
    base: Base,
    output: Annotated[Path, output_option("FILE", "YAML file to write")],
    json: Json = False,
) -> None:
    """Write the plan that fits a checkpoint, or draft one for a class that has none.

    A draft is measured on a small model of that class; what could not be settled is marked "open:".
    """
    from v2w_convert.console import print_line, print_result, print_table, show_progress

    with show_progress("plan") as progress:
        result = api.draft_plan(base, output, progress=progress)
    if not result.drafted:
        print_line(f"{output}: the plan {result.plan}, for {result.class_name}")
    else:
        print_line(f"{output}: a draft for {result.class_name}, for which no plan is shipped")
        for sentence in result.summary:
            print_line(sentence)
        if result.open_questions:
            print_table(
                "open, as the draft says too", ["where and what"], [[text] for text in result.open_questions]
            )
    if json:
        print_result(result)
