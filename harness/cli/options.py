"""Options and arguments that several commands share: names, files, columns and filters of rows; expansion of `~`.

`expand_paths` wraps every command, so that `~` is expanded also after an equals sign, where the shell does not.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from harness.data.reading import BAD_LINES, Reading
from harness.errors import InputError, unknown_name

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

# Errors of two options that exclude each other, and of a selection of runs that cannot be used.
conflict = partial(InputError, code="conflicting-options")
bad_selection = partial(InputError, code="bad-selection")


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


def output_format(form: str, *, as_json: bool) -> str:
    """The format of `--format` or `--json`. Raises `InputError` for an unknown one."""
    from harness.reports.tables import check_format

    return check_format("json" if as_json else form)


def check_metrics(*names: str) -> None:
    """Raises `InputError` for the first of `--metric` that is none of the protocol's."""
    from harness.protocol.protocol import METRICS

    for name in names:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS, where="--metric")


def existing(dataset: str | None) -> str | None:
    """The value of `-d` if it is a folder or a file, where a stored run's data set may be read; None for a name."""
    return dataset if dataset is not None and Path(dataset).expanduser().exists() else None


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
    return [expanded(element) for element in value] if isinstance(value, list) else value


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


def _reading(kind: type, name: str, metavar: str, about: str, least: int | None = None) -> Any:
    option = typer.Option(name, metavar=metavar, help=about, min=least, rich_help_panel=PANEL)
    return Annotated[kind | None, option]


OPTIONS: dict[str, Any] = {
    "columns": _reading(
        str,
        "--columns",
        "user=NAME,item=NAME,…",
        "Names of the columns user, item, timestamp, rating, title, …; numbers without a header.",
    ),
    "core": _reading(int, "--core", "K", "K-core: --min-user K --min-item K.", 1),
    "min_user": _reading(int, "--min-user", "N", "Drop users with fewer interactions.", 0),
    "min_item": _reading(int, "--min-item", "N", "Drop items with fewer interactions.", 0),
    "min_rating": _reading(float, "--min-rating", "R", "Drop interactions with lower ratings."),
    "bad_lines": BadLines,
}


def with_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces the parameter `reading` of a command by these options."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in signature.parameters.values()]
    place = [parameter.name for parameter in parameters].index("reading")
    parameters[place : place + 1] = [
        parameters[place].replace(name=name, annotation=kind, default=None) for name, kind in OPTIONS.items()
    ]

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        fields = {name: options.pop(name, None) for name in OPTIONS}
        reading = Reading.of({name: value for name, value in fields.items() if value is not None})
        command(*args, **options, reading=reading)

    del run.__wrapped__  # Typer would use the original signature
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
