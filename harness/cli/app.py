"""The `harness` command line: commands and exit codes.

0 success, 2 invalid input of the user, 130 interrupted, 1 internal error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from harness.cli import audit, bench, data, doctor, experiments, index, leaderboard, recommend, run, runs
from harness.cli.options import expand_paths
from harness.cli.output import interrupted, replace_unencodable, report_error
from harness.core.environment import check_switches
from harness.runs.devices import place

app = typer.Typer(
    name="harness",
    help="EAGER-LLM and its baselines, trained and measured under one protocol.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    run,
    recommend,
    runs,
    leaderboard,
    experiments,
    data,
    index,
    audit,
    doctor,
    bench,
)
for group in COMMANDS:
    group.register(app)
expand_paths(app)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """EAGER-LLM and its baselines, trained and measured under one protocol."""
    if version:
        import harness

        print(f"harness {harness.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
    elif context.invoked_subcommand != "run" and place()[0]:
        raise typer.Exit  # only the main process executes commands that are not distributed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; the exit code."""
    replace_unencodable()
    try:
        check_switches()
        code = app(args=None if arguments is None else list(arguments), prog_name="harness", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return interrupted()
    except BrokenPipeError:  # the reader of stdout has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return report_error(error)
    if code == 130:
        return interrupted()
    return code if isinstance(code, int) else 0
