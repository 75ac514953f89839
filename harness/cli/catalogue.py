"""`harness models` and `harness datasets`: what is registered. Nothing heavy is imported."""

from __future__ import annotations

from typing import Any

import typer

from harness.cli.options import AsJson
from harness.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(models)
    app.command()(datasets)


def models(as_json: AsJson = False) -> None:
    """List every registered model."""
    from harness.registry import model_entries

    keys = ("name", "family", "description", "paper", "needs")
    rows = [{key: getattr(entry, key) for key in keys} for entry in model_entries().values()]
    _print(rows, as_json, {key: key for key in keys})
    if not as_json:
        typer.echo("recbole:NAME is any other sequential model of RecBole, rectools:NAME any transformer of RecTools")


def datasets(as_json: AsJson = False) -> None:
    """List every registered data set."""
    from harness.data.catalogue import catalogue_entries

    rows: list[dict[str, Any]] = []
    for entry in catalogue_entries().values():
        keys = ("name", "description", "source", "licence", "users", "items", "interactions")
        rows.append({**{key: getattr(entry, key) for key in keys}, "ready": entry.ready()})
    keys = ("name", "ready", "users", "items", "interactions", "licence", "source")
    _print(rows, as_json, {key: key for key in keys})


def _print(rows: list[dict[str, Any]], as_json: bool, columns: dict[str, str]) -> None:
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns)
