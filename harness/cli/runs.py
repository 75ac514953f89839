"""`harness runs list` and `harness runs rm`: lists and removes stored runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import RESULTS, AsJson, MaybeDataset, Results
from harness.cli.output import log, print_json, print_table
from harness.errors import InputError, unknown_name

if TYPE_CHECKING:
    from harness.store.listing import Entry

HELP = "List and remove stored runs."


def register(app: typer.Typer) -> None:
    """Adds the group."""
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
