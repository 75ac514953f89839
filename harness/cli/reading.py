"""Options of reading files, shared by all commands with `-d`: columns, and filters of rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from harness.data.reading import BAD_LINES, Reading

PANEL = "Reading data"

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
    int | None, typer.Option("--core", min=1, metavar="K", help="--min-user and --min-item.", rich_help_panel=PANEL)
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
        help="Maximal number of invalid lines, which are dropped and counted; 0: none.",
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
