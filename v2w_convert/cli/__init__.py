"""`v2w`: parse, call one function, print its report. What is heavy is imported by the command that needs it."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from v2w_convert.cli.look import evaluate, rollout
from v2w_convert.cli.prepare import convert, inspect, plan
from v2w_convert.cli.prove import export, verify
from v2w_convert.cli.train import finetune
from v2w_convert.errors import V2WError

COMMANDS: tuple[Callable[..., Any], ...] = (
    inspect,
    plan,
    convert,
    verify,
    finetune,
    rollout,
    evaluate,
    export,
)

app = typer.Typer(
    help="Turn a pretrained video diffusion model into a world model, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("v2w-convert"))
        raise typer.Exit


def main() -> None:
    """The console entry: exit 0 done, 1 a claim does not hold, 2 the user's mistake (one line, no traceback)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """`v2w` with `arguments`; returns the exit code."""
    from v2w_convert.report import print_error, quiet_libraries

    as_json = "--json" in arguments
    try:
        with quiet_libraries():
            code = app(arguments, prog_name="v2w", standalone_mode=False)
            return code if isinstance(code, int) else 0
    except V2WError as error:
        print_error(error, as_json)
    except OSError as error:  # of a disk or a name, wherever it was met
        print_error(V2WError(f"run v2w {' '.join(arguments[:1])}", str(error)), as_json)
    except KeyboardInterrupt:
        sys.stderr.write("v2w: interrupted\n")
        return 130
    except Exception as error:
        message: Callable[[], str] | None = getattr(error, "format_message", None)
        if message is None:  # not a usage error of the command line's parser
            if type(error).__name__ == "Abort":
                return 130
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2
        command = (
            " ".join(["v2w", *arguments[:1]]) if arguments and not arguments[0].startswith("-") else "v2w"
        )
        print_error(V2WError(f"run {command}", message().rstrip("."), f"{command} --help"), as_json)
    return 2
