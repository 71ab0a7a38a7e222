"""The command line: each command parses its arguments, makes one call of the API, and prints the result."""

import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from v2w_convert.cli.budget import budget
from v2w_convert.cli.convert import convert
from v2w_convert.cli.data import data
from v2w_convert.cli.ending import INTERRUPTED, TERMINATED, Terminated, fault, nobody_reads, prepare, stopped
from v2w_convert.cli.evaluate import evaluate
from v2w_convert.cli.export import export
from v2w_convert.cli.finetune import finetune
from v2w_convert.cli.inspect import inspect
from v2w_convert.cli.options import SectionedCommand
from v2w_convert.cli.plan import plan
from v2w_convert.cli.play import play
from v2w_convert.cli.record import record
from v2w_convert.cli.rollout import rollout
from v2w_convert.cli.verify import verify
from v2w_convert.errors import V2WError

COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "inspect": (inspect, "Show what a checkpoint is and what a plan would change"),
    "plan": (plan, "Write the plan that fits a checkpoint, or draft one"),
    "convert": (convert, "Convert a checkpoint into a world model"),
    "verify": (verify, "Measure every claim about a converted model"),
    "record": (record, "Record episodes of a Gymnasium environment"),
    "budget": (budget, "Tell what finetuning would take in memory, and on disk"),
    "data": (data, "Show what is in a data set, and what is wrong with it"),
    "finetune": (finetune, "Train a converted model on episodes with actions"),
    "rollout": (rollout, "Generate a video beside the recorded one"),
    "play": (play, "Serve a page in which visitors step into the model"),
    "evaluate": (evaluate, "Measure quality by horizon and action following"),
    "export": (export, "Write one streamed step as an ONNX graph"),
}

app = typer.Typer(
    help="Convert pretrained video diffusion models into causal, action-conditioned world models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, (command, summary) in COMMANDS.items():
    app.command(name, cls=SectionedCommand, short_help=summary)(command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("v2w-convert"))
        raise typer.Exit


def main() -> None:
    """The console entry: exit with the code that `run` returns."""
    prepare()
    try:
        code = run(sys.argv[1:])
    except Exception:
        code = fault()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run `v2w` with `arguments`.

    Returns:
        The exit code: 0 done, 1 a claim or check fails, 2 a mistake of the user (one line, no traceback),
        3 no claim fails, but not all claims of the core could be measured, 130 interrupted, 143 terminated, 141 if nobody
        reads what is printed.
    """
    from v2w_convert.console import begin, print_error, quiet_libraries

    as_json = "--json" in arguments
    name = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    command = f"v2w {name}".strip()
    begin()
    try:
        with quiet_libraries(logging.CRITICAL):
            code = app(arguments, prog_name="v2w", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except V2WError as error:
        print_error(error, as_json)
    except OSError as error:  # of a disk or a file name, wherever it occurs
        print_error(V2WError(f"run {command}", str(error)), as_json)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write(f"v2w: {stopped('interrupted', name)}\n")
        return INTERRUPTED
    except Terminated:
        sys.stderr.write(f"v2w: {stopped('terminated', name)}\n")
        return TERMINATED
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return nobody_reads()
    except Exception as error:
        message: Callable[[], str] | None = getattr(error, "format_message", None)
        if message is None:  # not a usage error of the command line's parser
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # whose message is the help
            sys.stderr.write(f"{message()}\n")
            return 2
        print_error(V2WError(f"run {command}", message().rstrip("."), f"{command} --help"), as_json)
    return 2
