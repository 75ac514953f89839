"""The `harness` command line: commands and exit codes.

0 success, 2 invalid input of the user, 130 interrupted, 1 internal error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

import typer

from harness.cli import audit, bench, data, doctor, experiments, leaderboard, run, runs
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
    run.run,
    run.evaluate,
    run.ensemble,
    runs.recommend,
    runs.export,
    doctor.models,
    doctor.datasets,
    leaderboard.leaderboard,
    leaderboard.report,
    leaderboard.compare,
    experiments.ablate,
    experiments.tune,
    runs.certify,
    runs.verify,
    doctor.doctor,
    doctor.prefetch,
)


def add_group(name: str, about: str, commands: Mapping[str, Callable[..., None]]) -> None:
    """Adds a group of commands, which alone prints its help."""

    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            print(context.get_help())

    group = typer.Typer(help=about)
    group.callback(invoke_without_command=True)(show_help)
    for command, function in commands.items():
        group.command(command)(function)
    app.add_typer(group, name=name)


for function in COMMANDS:
    app.command()(function)
add_group("runs", "List and remove stored runs.", {"list": runs.show, "rm": runs.remove_runs})
add_group(
    "data",
    "Prepare, import, export and check data sets.",
    {
        "stats": data.stats,
        "items": data.items,
        "verify": data.verify,
        "prepare": data.prepare,
        "import": data.bring,
        "export": data.send,
    },
)
add_group(
    "index",
    "Item codes as an index file (a JSON object of items and lists of tokens), and its statistics.",
    {"build": audit.build, "inspect": audit.inspect},
)
add_group(
    "audit",
    "Audits: effect of shared codes on metrics, report cards of data sets, memorisation.",
    {"codes": audit.codes, "card": audit.card, "memory": audit.memory},
)
add_group(
    "bench",
    "Paired benchmarks against reference implementations; results must be equal.",
    {
        "decode": bench.decode,
        "train": bench.train,
        "index": bench.index,
        "metrics": bench.metrics,
        "trie": bench.trie,
        "scale": bench.scale,
    },
)
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
