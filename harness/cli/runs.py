"""`harness runs list` and `harness runs rm`: lists and removes stored runs; `harness models` and `harness datasets`:
what is registered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import RESULTS, AsJson, MaybeDataset, Results
from harness.cli.output import log, print_json, print_table
from harness.errors import InputError, unknown_name

if TYPE_CHECKING:
    from harness.registry import ModelEntry
    from harness.store.listing import Entry

HELP = "List and remove stored runs."
LIBRARIES = "recbole:NAME is any other sequential model of RecBole, rectools:NAME any transformer of RecTools"


def register(app: typer.Typer) -> None:
    """Adds `models`, `datasets` and the group `runs`."""
    app.command()(models)
    app.command()(datasets)
    group = typer.Typer(help=HELP)
    group.callback(invoke_without_command=True)(_help)
    group.command("list")(show)
    group.command("rm")(remove_runs)
    app.add_typer(group, name="runs")


def _help(context: typer.Context) -> None:
    """List and remove stored runs."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def show(dataset: MaybeDataset = None, results: Results = RESULTS, as_json: AsJson = False) -> None:
    """List all runs, also unfinished ones: model, data set, seed, state, main metric, size on disk."""
    from harness.protocol.protocol import MAIN_METRIC

    entries = _entries(results, dataset)
    rows = [_document(entry, MAIN_METRIC) for entry in entries]
    if as_json:
        print_json(rows)
        return
    if not rows:
        log(f"no runs stored in {results}" + (f" for {dataset}" if dataset else ""))
        return
    columns = {"run_id": "run", "model": "model", "dataset": "data set", "seed": "seed", "status": "status"}
    values = [
        {
            **row,
            MAIN_METRIC: "" if row[MAIN_METRIC] is None else f"{row[MAIN_METRIC]:.4f}",
            "size": _size(row["bytes"]),
            "finished": (row["finished"] or "")[:16].replace("T", " "),
        }
        for row in rows
    ]
    print_table(values, {**columns, MAIN_METRIC: MAIN_METRIC, "size": "size", "finished": "finished (UTC)"})
    log(f"{len(rows)} runs, {_size(sum(entry.size for entry in entries))}")


def remove_runs(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN [RUN ...]", help="Run ids or their beginnings, or models' names.")
    ],
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove runs: records, rankings, models. Asks for confirmation; active runs are rejected."""
    from harness.store.listing import remove

    entries = _chosen(_entries(results, dataset), runs, results)
    if running := [entry for entry in entries if entry.state == "running"]:
        hint = "wait until it is complete, or end that process"
        raise InputError(
            f"{running[0].run_id} is being executed by a process",
            where=str(running[0].path),
            hint=hint,
            code="bad-selection",
        )
    for entry in entries:
        log(f"{entry.run_id}: {entry.model} on {entry.dataset}, {entry.state}, {_size(entry.size)}")
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(
                f"removing {len(entries)} runs needs a confirmation",
                where="RUN",
                hint="add --yes",
                code="bad-selection",
            )
        typer.confirm(f"remove {len(entries)} runs permanently?", abort=True, err=True)
    for entry in entries:
        remove(entry)
    size = sum(entry.size for entry in entries)
    if as_json:
        print_json({"removed": [str(entry.path) for entry in entries], "bytes": size})
    else:
        print(f"{len(entries)} runs removed, {_size(size)} free")


def _entries(results: Path, dataset: str | None) -> list[Entry]:
    from harness.reports.selection import stored_name
    from harness.store.listing import entries
    from harness.store.run_store import Store

    store = Store(results)
    return entries(store, None if dataset is None else stored_name(store, dataset))


def _chosen(selected_entries: Sequence[Entry], requested: Sequence[str], results: Path) -> list[Entry]:
    """The selected runs, in the order of the list. Raises `InputError` for unknown names and ambiguous ids."""
    target: dict[Path, Entry] = {}
    for text in requested:
        entries = [
            entry for entry in selected_entries if text in (entry.run_id, entry.model) or Path(text) == entry.path
        ]
        if not entries:
            entries = [entry for entry in selected_entries if text and entry.run_id.startswith(text)]
            if len(entries) > 1:
                message = f"{text!r} begins the ids of {len(entries)} runs"
                raise InputError(
                    message, where="RUN", hint="give more of it; harness runs list shows them", code="bad-selection"
                )
        if not entries:
            names = {name for entry in selected_entries for name in (entry.run_id, entry.model)}
            raise unknown_name("run", text, names, where=str(results))
        target.update((entry.path, entry) for entry in entries)
    return [entry for entry in selected_entries if entry.path in target]


def _document(entry: Entry, metric: str) -> dict[str, Any]:
    record = entry.record
    return {
        "run_id": entry.run_id,
        "model": entry.model,
        "dataset": entry.dataset,
        "seed": entry.seed,
        "status": entry.state,
        metric: None if record is None else record.metrics.test[metric],
        "bytes": entry.size,
        "finished": None if record is None else record.finished.isoformat(),
        "path": str(entry.path),
    }


def _size(count: int) -> str:
    """Bytes in readable form.

    >>> _size(512), _size(20_480), _size(3 * 2**30)
    ('512 B', '20.0 KiB', '3.0 GiB')
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


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
