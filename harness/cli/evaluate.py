"""`harness evaluate`: evaluates external rankings and stores them as a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, AsJson, Dataset, Order, Protocol, Results, Sets, with_reading
from harness.cli.output import log, stdout_kept
from harness.data.reading import PLAIN, Reading


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(evaluate)


@with_reading
def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Rankings with raw ids: .csv or .tsv (user,item and score or rank), a TREC run, .json, .lz4, .parquet."
        ),
    ],
    dataset: Dataset,
    name: Annotated[str | None, typer.Option(help="Name in the leaderboard.", show_default="file name")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the seeds of one name are one row.")] = None,
    sets: Sets = None,
    protocol: Protocol = None,
    order: Order = None,
    reading: Reading = PLAIN,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Evaluate external rankings under the same protocol, and store them as a run."""
    from harness.cli.output import print_summary
    from harness.runs.external import External
    from harness.runs.external import evaluate as measure
    from harness.store.run_store import Store

    store = Store(results)
    external = External(predictions, dataset, name, seed, tuple(sets or ()), protocol, order or "time", reading)
    with stdout_kept():
        done = measure(external, store, log)
    print_summary([done], store, as_json=as_json)
