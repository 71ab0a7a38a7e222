"""`v2w inspect`."""

from v2w_convert import api
from v2w_convert.cli.options import Base, Json, takes_settings
from v2w_convert.surgery.settings import InspectSettings


@takes_settings
def inspect(base: Base, settings: InspectSettings, json: Json = False) -> None:
    """Show what a checkpoint is, the plan that fits it, and every module that the plan changes.

    Reads configs and headers, no weights.
    """
    from v2w_convert.console import print_line, print_result, print_table
    from v2w_convert.text import fold_paths

    result = api.inspect(base, plan=settings.plan, variant=settings.variant, ema=settings.ema)
    rows = {
        "class": result.class_name,
        "parameters": result.parameters,
        "dtype": result.dtype,
        "latent channels": result.latent_channels,
        "window": result.window,
        "frames per block": result.frames_per_block,
        "conditions": ", ".join(result.conditions) or "none",
        "noise": f"{result.noise}, prediction {result.prediction_type}",
        "plan": result.plan,
    }
    if result.boundary is not None:
        rows["denoisers"] = (
            f"two: transformer from {result.boundary:g} of the timesteps on, transformer_2 below"
        )
    print_table(str(result.base), ["what", "found"], rows.items())
    by_operation: dict[str, list[str]] = {}
    for path, operation in result.sites.items():
        by_operation.setdefault(operation, []).append(path)
    print_table(
        "modules that the plan changes",
        ["operation", "modules", "count"],
        [
            (operation, path, count)
            for operation, paths in by_operation.items()
            for path, count in fold_paths(paths).items()
        ],
    )
    if result.uncovered:
        print_table(
            "frames mix here too, but the plan has no operation for it",
            ["module"],
            [[name] for name in result.uncovered],
        )
    for note in result.notes:
        print_line(f"{result.base}: {note}")
    if json:
        print_result(result)
