"""The options that several commands share, each stated once.

What a path on the command line means: `~` is the home folder, also behind an equals sign, where no shell looks.

One rule for all of them, put round every command where the command line is built, so that no command goes past it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.errors import InputError

WHICH = "A registered name, or a folder or file with data."


Dataset = Annotated[str, typer.Option("-d", "--dataset", help=WHICH)]


MaybeDataset = Annotated[str | None, typer.Option("-d", "--dataset", help=WHICH)]


Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Where runs are stored.")]


AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; repeatable."),
]


Profile = Annotated[
    str | None, typer.Option(help="auto, smoke, cpu, gpu or paper: settings for a purpose.", show_default="auto")
]


Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps.", show_default="by profile")]


Protocol = Annotated[
    str | None,
    typer.Option("--protocol", help="leave-one-out, global-time or rolling-time.", show_default="leave-one-out"),
]


Order = Annotated[
    str | None,
    typer.Option("--order", help="time, or file: the lines of a folder's files stand in order.", show_default="time"),
]


Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME[=WHERE]",
        help="Log to tensorboard[=DIR], mlflow[=URI], wandb[=PROJECT] or another tracker as well; repeatable.",
    ),
]


RESULTS = Path("results")


def numbers(text: str | None) -> tuple[int, ...]:
    """What `--seeds 1,2,3` says; none for None."""
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{text!r} is no list of whole numbers", where="--seeds", hint="write 1,2,3", code="bad-setting"
        ) from error


def expand_paths(app: typer.Typer) -> None:
    """Has every command of `app`, and of the groups in it, called with `~` and `~user` written out in each path."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _expanded(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            expand_paths(group.typer_instance)


def _expanded(command: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        return command(*map(expanded, arguments), **{name: expanded(value) for name, value in options.items()})

    return run


def expanded(value: Any) -> Any:
    """A path, or each path of a list, with the home folder written out; anything else as it is."""
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    return [expanded(each) for each in value] if isinstance(value, list) else value
