"""What a path on the command line means: `~` is the home folder, also behind an equals sign, where no shell looks.

One rule for all of them, put round every command where the command line is built, so that no command goes past it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import typer


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
