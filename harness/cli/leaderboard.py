"""`harness leaderboard`: all stored runs, best first; `harness report`: one HTML page on a data set; `harness compare`:
compares stored runs, paired by user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    RESULTS,
    TABLE_FORMATS,
    AsJson,
    Dataset,
    MaybeDataset,
    OutputFile,
    Protocol,
    Results,
    bad_selection,
    check_metrics,
    check_output,
    existing,
    output_format,
)
from harness.cli.output import log, print_report, write_output

if TYPE_CHECKING:
    from harness.protocol.predictions import Predictions
    from harness.reports.leaderboard import Row
    from harness.store.run_store import Store, StoredRun


def leaderboard(
    dataset: MaybeDataset = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric of the order.", show_default="ndcg@10, or the first of --metrics")
    ] = None,
    models: Annotated[str | None, typer.Option(metavar="A,B", help="Only these models.")] = None,
    runs: Annotated[str | None, typer.Option(metavar="ID,ID", help="Only these runs, by the beginning of ids.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="ROW=NAME", help="Another name for a model or a run; repeatable.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="M,M", help="Columns: recall, ndcg, mrr, hit, map, with @K or with --k.", show_default=False
        ),
    ] = None,
    k: Annotated[str | None, typer.Option("--k", metavar="5,10", help="K of --metrics, up to 100.")] = None,
    form: Annotated[str, typer.Option("--format", help=TABLE_FORMATS)] = "table",
    published: Annotated[bool, typer.Option("--published", help="Add published rows, marked as such.")] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            help="quality, integrity, cost, effort, comprehension, memory, card, command: any, with commas.",
            show_default="the first three",
        ),
    ] = None,
    output: OutputFile = None,
    results: Results = RESULTS,
    protocol: Protocol = None,
    protocols: Annotated[bool, typer.Option("--protocols", help="Rank of each model under every protocol.")] = False,
    test: Annotated[
        bool | None,
        typer.Option(
            "--test/--no-test",
            help="Test the best against the second, paired by user: a dagger marks a significant lead.",
            show_default="with -d",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print all stored runs, best first: mean ± standard deviation over seeds."""
    from harness.protocol.protocol import MAIN_METRIC, METRICS
    from harness.reports import formats
    from harness.reports.extra_columns import with_card, with_memory
    from harness.reports.lead_tests import with_leads
    from harness.reports.leaderboard import select
    from harness.reports.published import published_boards
    from harness.reports.selecting import Selection, check_metric, select_rows, selection
    from harness.runs.config import protocol_sets, resolve_protocol
    from harness.store.record import read_document, tie_file
    from harness.store.run_store import Store, gc_disabled

    form = output_format(form, as_json=as_json)
    check_output(output)
    current_selection = selection(models, runs, label or (), metrics, k)
    metric = check_metric(metric or next(iter(current_selection.metrics), MAIN_METRIC))
    by = metric if metric in METRICS else MAIN_METRIC  # others are computed for the selected rows only
    if protocols:
        check_metrics(metric)
        _protocols(Store(results), dataset, metric, form, output)
        return
    sets = formats.check_columns(columns)
    expected = None if protocol is None else resolve_protocol(protocol_sets(protocol)).name
    store = Store(results)
    with gc_disabled():
        named = bool(current_selection.runs)
        every = published_boards(store, dataset, by) if published else select(store, dataset, by, every=named)
    boards = [board for board in every if expected in (None, board.protocol.name) or board.published_only]
    location = existing(dataset)
    for number, board in enumerate(boards):
        path = tie_file(store.root, board.dataset.name, board.protocol.fingerprint)
        boards[number] = replace(board, ties=read_document(path, "models") or {})
    if current_selection != Selection() or metric != by:
        boards = select_rows(boards, current_selection, metric, location, _deeper(location))
    if test or (test is None and dataset is not None):
        tested = [name for name in formats.shown_metrics(metric, current_selection.metrics) if name in METRICS]
        boards = [with_leads(board, tested, location) for board in boards]
    if "card" in sets:
        boards = [with_card(board, metric, location) for board in boards]
    if "memory" in sets:
        boards = [with_memory(board, store.root) for board in boards]
    if "command" in sets:
        boards = [replace(board, rows=tuple(map(_commanded, board.rows))) for board in boards]
    if all(board.published_only for board in boards):
        missing = f"no runs stored in {results}" + (f" for {dataset}" if dataset else "")
        log(f"{missing}; harness run makes some, or say --results")
    if published and not any(row.quoted for board in boards for row in board.rows):
        log("no published rows" + (f" for {dataset}" if dataset else ""))
    print_report(formats.report(boards, metric, sets, current_selection.metrics), form, output)


def _deeper(location: str | None) -> Callable[[StoredRun, int], Predictions]:
    """Ranks again with a run's stored model, and says so: it may take as long as it did in the run."""

    def lists(run: StoredRun, depth: int) -> Predictions:
        from harness.runs.recommending import deeper_lists

        seconds, stored = run.record.cost.eval_seconds or 0.0, run.record.protocol.depth
        log(
            f"{run.record.run_id} stores {stored} items of a list: its model ranks {depth} now "
            f"({seconds:,.0f} s in the run; --set protocol.depth={depth} stores them)"
        )
        return deeper_lists(run, depth, location)

    return lists


def _commanded(row: Row) -> Row:
    """The row with the command of its runs; published rows have none."""
    from harness.runs.job import command_of

    return replace(row, command=command_of(row.runs)) if row.runs else row


def _protocols(store: Store, dataset: str | None, metric: str, form: str, output: Path | None) -> None:
    """The rank of each configuration under each protocol."""
    from harness.reports.protocol_ranks import crossings, report
    from harness.reports.selection import stored_name

    name = None if dataset is None else stored_name(store, dataset)
    protocol_comparisons = crossings(store.query(name), metric)
    if not protocol_comparisons:
        log("no data set with runs under more than one protocol; see harness run --protocol global-time")
    print_report(report(protocol_comparisons), form, output)


def report(
    dataset: Dataset,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The page.", show_default="RESULTS/DATASET.html"),
    ] = None,
    metric: Annotated[str, typer.Option(help="Metric of order and plots.")] = "ndcg@10",
    published: Annotated[bool, typer.Option("--published", help="Add published rows, marked as such.")] = False,
    results: Results = RESULTS,
) -> None:
    """Write one HTML page with the tables and plots of all stored runs on a data set; it is self-contained."""
    from harness.reports.html.build import report
    from harness.reports.selection import stored_name
    from harness.runs.api import check_writable
    from harness.store.run_store import Store

    store = Store(results)
    if output is not None:
        check_writable(output)
    path = output or results / f"{stored_name(store, dataset)}.html"
    text = report(store, dataset, metric, published=published, message=log)
    log(f"a page of {len(text) / 1e6:.1f} MB")
    write_output(path, text)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [RUN ...]",
            help="A run id or its beginning, a model's name (all its seeds), or ids of one configuration with commas.",
        ),
    ],
    dataset: MaybeDataset = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Compared metric; repeatable.", show_default="ndcg@10, recall@10")
    ] = None,
    form: Annotated[str, typer.Option("--format", help=TABLE_FORMATS)] = "table",
    output: OutputFile = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also published figures: differences and their possible causes.")
    ] = False,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Compare stored runs user by user: differences, intervals, significance corrected for their number.

    With --published one run is enough; nothing is tested against published rows.
    """
    from harness.reports import comparison, published_gap
    from harness.reports.selection import choose
    from harness.reports.tables import Report
    from harness.store.run_store import Store

    form = output_format(form, as_json=as_json)
    metrics = tuple(dict.fromkeys(metric or comparison.METRICS_SHOWN))
    check_metrics(*metrics)
    if len(runs) < 2 and not published:
        raise bad_selection("a single run cannot be compared", where="RUN", hint="name two or more, or add --published")
    if form == "csv" and published:
        raise bad_selection("csv has the differences between runs only", where="--format", hint="--format json")
    check_output(output)
    store = Store(results)
    sides = choose(store, runs, dataset)
    document, sheets = {}, []
    if len(sides) > 1:
        location = dataset if dataset is not None and Path(dataset).is_dir() else None
        current_comparison = comparison.compare(sides, metrics, location)
        document, sheets = current_comparison.document(), comparison.sheets(current_comparison)
    if published:
        gaps = published_gap.gaps(store, sides, metrics)
        document = (document or comparison.about_sides(sides, metrics)) | {
            "published": [one.document() for one in gaps]
        }
        sheets += published_gap.sheets(sides, gaps, metrics)
    print_report(Report(lambda: sheets, lambda: document, lambda: document["comparisons"]), form, output)
