"""`harness models` and `harness datasets`: what is registered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson
from harness.cli.output import print_json, print_table

if TYPE_CHECKING:
    from harness.registry import ModelEntry

LIBRARIES = "recbole:NAME is any other sequential model of RecBole, rectools:NAME any transformer of RecTools"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(models)
    app.command()(datasets)


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show the settings of this model.")] = None,
    as_json: AsJson = False,
) -> None:
    """List all registered models; or the settings of one: defaults, meaning, values in profiles."""
    from harness.registry import model_entries, model_entry

    if name is not None:
        _describe(model_entry(name), as_json)
        return
    keys = ("name", "family", "description", "paper", "needs")
    rows = [{key: getattr(entry, key) for key in keys} for entry in model_entries().values()]
    _print(rows, as_json, {key: key for key in keys})
    if not as_json:
        typer.echo(LIBRARIES)


def _describe(entry: ModelEntry, as_json: bool) -> None:
    from harness.runs.describing import describe

    entries = describe(entry)
    if as_json:
        print_json(entries)
        return
    print("\n".join(filter(None, [f"{entries['name']}: {entries['description']}", entries["paper"]])))
    for title, rows in ((f"--set {entries['section']}", entries["settings"]), ("--set protocol", entries["protocol"])):
        values = [
            {
                "name": row["name"].partition(".")[2],
                "default": _short(row["default"]),
                "meaning": row["meaning"] + (f" ({', '.join(map(_short, row['values']))})" if row["values"] else ""),
                "changes": _changes(row),
            }
            for row in rows
        ]
        if values:
            heads = {"name": title, "default": "default", "meaning": "meaning", "changes": "profiles, variants"}
            print_table(values, heads)
    if not entries["settings"]:
        print(f"{entries['name']} has no settings of its own")


def _changes(row: Mapping[str, Any]) -> str:
    """Values that profiles and variants set."""
    bundles = {**row.get("profiles", {}), **row.get("variants", {})}
    return ", ".join(f"{name} {_short(value)}" for name, value in bundles.items())


def _short(value: Any) -> str:
    """A value as written for `--set`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def datasets(as_json: AsJson = False) -> None:
    """List all registered data sets."""
    from harness.data.catalog import catalogue_entries

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
