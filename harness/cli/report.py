"""`harness report`: everything that is stored of a data set, as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Dataset, Results
from harness.cli.output import note, write_output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(report)


def report(
    dataset: Dataset,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The page.", show_default="RESULTS/DATASET.html"),
    ] = None,
    metric: Annotated[str, typer.Option(help="What the order goes by, and what is drawn.")] = "ndcg@10",
    published: Annotated[bool, typer.Option("--published", help="Add the papers' own rows, marked as such.")] = False,
    results: Results = RESULTS,
) -> None:
    """Write one HTML page with the tables and plots of all stored runs on a data set; it opens without a network."""
    from harness.reports.html.build import Wanted, report
    from harness.reports.selection import stored_name
    from harness.runs.index_builder import check_writable
    from harness.store.run_store import Store

    store = Store(results)
    if output is not None:
        check_writable(output)
    path = output or results / f"{stored_name(store, dataset)}.html"
    text = report(store, Wanted(dataset, metric, published), note)
    note(f"a page of {len(text) / 1e6:.1f} MB")
    write_output(path, text)
