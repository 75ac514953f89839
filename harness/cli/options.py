"""Options and arguments that several commands share: names, files, columns and filters of rows; expansion of `~`.

`expand_paths` wraps every command, so that `~` is expanded also after an equals sign, where the shell does not.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from harness.data.reading import BAD_LINES, Reading
from harness.errors import InputError

WHICH = "A registered name, or a folder or file with data."
RESULTS = Path("results")
TABLE_FORMATS = "table, markdown, latex, csv, json or html."

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
    typer.Option("--order", help="time, or file: the lines of the files are in order.", show_default="time"),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME[=WHERE]",
        help="Log to tensorboard[=DIR], mlflow[=URI], wandb[=PROJECT] or another tracker as well; repeatable.",
    ),
]
ModelName = Annotated[
    str, typer.Argument(help="A name of `harness models`, recbole:NAME, rectools:NAME, or FILE.py:CLASS.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run id or its beginning, or a model's name.")]
OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write to this file.", show_default="stdout"),
]
OutputFolder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new or empty folder.")]
Fresh = Annotated[bool, typer.Option("--fresh/--resume", help="Repeat complete runs, or resume interrupted ones.")]
PANEL = "Reading data"


def numbers(text: str | None) -> tuple[int, ...]:
    """Parses `--seeds 1,2,3`; () for None."""
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{text!r} is not a list of integers", where="--seeds", hint="write 1,2,3", code="bad-setting"
        ) from error


def check_new_folder(path: Path) -> None:
    """Raises `InputError` unless `path` is free or an empty folder; called before any computation."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError("not an empty folder", where=str(path), hint="name a new one", code="already-exists")


def check_output(path: Path | None) -> None:
    """Raises `InputError` if the path of `-o` is a folder; called before any computation."""
    if path is not None and path.is_dir():
        raise InputError("the path is a folder", where=str(path), hint="name a file in it", code="cannot-write")


def expand_paths(app: typer.Typer) -> None:
    """Makes every command of `app` and its groups expand `~` and `~user` in paths."""
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
    """A path, or each path of a list, with `~` expanded; other values are unchanged."""
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    return [expanded(each) for each in value] if isinstance(value, list) else value


Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="user=NAME,item=NAME,…",
        help="Names of the columns user, item, timestamp, rating, title, …; numbers without a header.",
        rich_help_panel=PANEL,
    ),
]
Core = Annotated[
    int | None,
    typer.Option("--core", min=1, metavar="K", help="K-core: --min-user K --min-item K.", rich_help_panel=PANEL),
]
MinUser = Annotated[
    int | None,
    typer.Option("--min-user", min=0, metavar="N", help="Drop users with fewer interactions.", rich_help_panel=PANEL),
]
MinItem = Annotated[
    int | None,
    typer.Option("--min-item", min=0, metavar="N", help="Drop items with fewer interactions.", rich_help_panel=PANEL),
]
MinRating = Annotated[
    float | None,
    typer.Option("--min-rating", metavar="R", help="Drop interactions with lower ratings.", rich_help_panel=PANEL),
]
BadLines = Annotated[
    float | None,
    typer.Option(
        "--bad-lines",
        metavar="SHARE",
        help="Largest share of invalid lines, which are dropped and counted; 0: none.",
        show_default=str(BAD_LINES),
        rich_help_panel=PANEL,
    ),
]
OPTIONS: dict[str, Any] = {
    "columns": Columns,
    "core": Core,
    "min_user": MinUser,
    "min_item": MinItem,
    "min_rating": MinRating,
    "bad_lines": BadLines,
}


def with_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces the parameter `reading` of a command by these options."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name == "reading":
            parameters += [
                parameter.replace(name=name, annotation=kind, default=None) for name, kind in OPTIONS.items()
            ]
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        fields = {name: options.pop(name, None) for name in OPTIONS}
        reading = Reading.of({name: value for name, value in fields.items() if value is not None})
        command(*args, **options, reading=reading)

    del run.__wrapped__  # Typer would use the original signature
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
