"""`harness compare`: compares stored runs, paired by user."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    MaybeDataset,
    OutputFile,
    Results,
)
from harness.cli.output import check_output, console, print_json, print_plain, write_output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(compare)


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
    form: Annotated[str, typer.Option("--format", help="table, markdown, latex, html or json.")] = "table",
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
    import json

    from harness.errors import InputError, unknown_name
    from harness.protocol.protocol import METRICS
    from harness.reports import comparison, comparison_tables, formats, published_gap
    from harness.reports import published_gap as published_gap_table
    from harness.reports.selection import choose
    from harness.store.run_store import Store

    names = [*formats.SHEETS, "json"]
    if form not in names:
        raise unknown_name("format", form, names, where="--format")
    metrics = tuple(dict.fromkeys(metric or comparison.METRICS_SHOWN))
    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS, where="--metric")
    if len(runs) < 2 and not published:
        raise InputError(
            "a single run cannot be compared",
            where="RUN",
            hint="name two or more, or add --published",
            code="bad-selection",
        )
    check_output(output)
    store = Store(results)
    sides = choose(store, runs, dataset)
    document, sheets = {}, []
    if len(sides) > 1:
        location = dataset if dataset is not None and Path(dataset).is_dir() else None
        current_comparison = comparison.compare(sides, metrics, location)
        document, sheets = current_comparison.document(), comparison_tables.sheets(current_comparison)
    if published:
        gaps = published_gap.gaps(store, sides, metrics)
        document = (document or comparison.about_sides(sides, metrics)) | {
            "published": [one.document() for one in gaps]
        }
        sheets += published_gap_table.sheets(sides, gaps, metrics)
    if as_json or form == "json":
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = formats.SHEETS[form](sheets)
    if output is not None:
        write_output(output, text)
    elif as_json:
        print_json(document)
    elif form == "table":
        print_plain(formats.sheets_drawn(sheets, console().width))
    else:
        sys.stdout.write(text)
