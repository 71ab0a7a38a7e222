"""A plan for a class that has none: drafted, completed, verified. The how-to "Add a family of models" shows this file."""

# --8<-- [start:tiny]
from pathlib import Path

import torch

from v2w_convert import ConvertSettings, convert, draft_plan, read_plan, verify
from v2w_convert.families.build import build_model
from v2w_convert.plan.probe import randomize_zero_init


def save_tiny_base(plan_file: Path, folder: str) -> None:
    """Write a small, randomly initialised model of a plan's class."""
    plan = read_plan(plan_file)
    torch.manual_seed(0)
    model = build_model(plan.base, plan.tiny).eval()
    randomize_zero_init(
        model
    )  # zero-initialised layers would hide what lies behind them
    model.save_pretrained(folder)


# --8<-- [end:tiny]
# --8<-- [start:draft]
def draft(base: str) -> None:
    """Draft a plan for a class that has none."""
    drafted = draft_plan(base, "draft.yaml")
    print(drafted.site_counts)  # how many modules each operation applies to
    # With all operations in their bidirectional form, the distance from the base.
    print(drafted.identity_gap)
    print(drafted.open_questions)  # what you have to settle


# --8<-- [end:draft]
# --8<-- [start:verify]
def convert_and_verify(base: str, plan: Path) -> None:
    """Convert with the plan, and measure every claim."""
    convert(base, "converted", ConvertSettings(action_dim=3, plan=plan))
    report = verify("converted", base)
    for claim in report.claims:
        if not claim.ok:
            print(f"{claim.sentence}: {claim.where}. {claim.fix}")
    assert report.ok


# --8<-- [end:verify]
