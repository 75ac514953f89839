"""Bar charts of ablations: one for each stored grid of a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from harness.errors import InputError
from harness.evaluation.significance import LEVEL
from harness.reports.ablation import AblationTable, Variant, ablation_table, sheet
from harness.reports.comparison import Pair
from harness.reports.html.document import COLOURS, Figure, View, broken, error_bars, plot, shown
from harness.reports.per_user import Measured
from harness.reports.values import marked
from harness.store.record import RunKey
from harness.store.run_store import Store, StoredRun, Unreadable, read_record

BAR, ROOM = 34, 110  # pixels of a bar and its gap, and of the axis
SCHEMA = 1


@dataclass(frozen=True)
class Grid:
    """One state file of `harness ablate`."""

    name: str
    about: str
    model: str
    path: Path
    variants: tuple[Variant, ...]


def grids(store: Store, dataset: str, split: str) -> tuple[list[Grid], list[str]]:
    """The grids on a data set under one split, by path; and a message for each unusable file."""
    results, notes = [], []
    for path in sorted((store.root / "ablations").glob(f"*/{dataset}/*.json")):
        try:
            document = json.loads(path.read_bytes())
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r} is not {SCHEMA}")
            if document["split"] == split:
                results.append(_grid(store, path, document))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            notes.append(f"skipped {path}: not a readable ablation ({type(error).__name__}: {error})")
    return results, notes


def grid_figures(
    selected_grids: Sequence[Grid], metrics: Sequence[str], base: Measured
) -> tuple[list[Figure], list[str]]:
    """One figure for each grid whose base and another row are complete, with one view a metric; and messages for grids
    that are left out."""
    results, notes = [], []
    for number, grid in enumerate(selected_grids):
        try:
            tables = {
                metric: ablation_table(
                    f"{grid.model}, grid {grid.name}: {metric}",
                    grid.variants,
                    tuple(dict.fromkeys((metric, *metrics))),
                    base,
                )
                for metric in metrics
            }
        except InputError as error:
            notes.append(f"The grid {grid.name} ({grid.path.name}) is not drawn: {error}")
            continue
        views = [_grid_view(table, metric) for metric, table in tables.items() if table.pairs]
        if views:
            title = f"Ablation of {grid.model}: {grid.name}"
            message = f"{grid.about.rstrip('.')}. " if grid.about else ""
            description = (
                f"{message}Bars are differences to {grid.variants[0].label}, with {LEVEL:.0%} bootstrap intervals over "
                "users; filled where significant after Holm's correction within the grid, open where not."
            )
            results.append(Figure(f"ablation-{number + 1}", title, description, "in", tuple(views)))
        else:
            notes.append(f"The grid {grid.name} ({grid.path.name}) has no complete row beside its base yet.")
    return results, notes


def _grid(store: Store, path: Path, document: dict[str, Any]) -> Grid:
    model, dataset = document["model"], document["dataset"]
    variants = []
    for row in document["rows"]:
        slots = [slot for slot in document["runs"] if slot["cell"] == row["name"]]
        keys = [RunKey(model, dataset, slot["run_id"]) for slot in slots if slot["state"] == "complete"]
        runs = tuple(run for key in keys if (run := _run(store, key)) is not None)
        reasons = tuple(slot["reason"] for slot in slots if slot["state"] == "failed")
        variants.append(Variant(row["name"], runs, row["changes"], len(slots), reasons))
    if not variants:
        raise ValueError("it has no rows")
    return Grid(document["grid"], document["about"], model, path, tuple(variants))


def _run(store: Store, key: RunKey) -> StoredRun | None:
    """None if the run is missing or unreadable; the query over the store has warned about it."""
    folder = store.folder(key)
    try:
        return StoredRun(read_record(folder.result), folder)
    except Unreadable:
        return None


def _grid_view(table: AblationTable, metric: str) -> View:
    pairs = [(variant, table.pairs[variant.label]) for variant in table.variants if variant.label in table.pairs]
    worse = [variant.label for variant, pair in pairs if pair.significant and pair.found.difference < 0]
    better = [variant.label for variant, pair in pairs if pair.significant and pair.found.difference > 0]
    message = (
        f"Bar chart of differences in {metric} to {table.variants[0].label}, {len(pairs)} variants. "
        f"Significantly lower: {', '.join(worse) or 'none'}. Significantly higher: {', '.join(better) or 'none'}."
    )
    return View(metric, _grid_plot(pairs, metric, table.variants[0].label), message, sheet(table))


def _grid_plot(pairs: Sequence[tuple[Variant, Pair]], metric: str, base: str) -> go.Figure:
    differences = [pair.found for _, pair in pairs]
    colours = [COLOURS[1] if one.difference < 0 else COLOURS[0] for one in differences]
    bars = go.Bar(
        orientation="h",
        y=list(range(len(pairs))),
        x=[one.difference for one in differences],
        error_x=error_bars([(one.difference, one.low, one.high) for one in differences], width=4, thickness=1.4),
        marker={
            "color": [
                colour if pair.significant else "rgba(0,0,0,0)"
                for colour, (_, pair) in zip(colours, pairs, strict=True)
            ],
            "line": {"color": colours, "width": 1.6},
        },
        customdata=[
            [shown(variant.label), f"p Holm {pair.p_corrected:.3g}", shown(variant.changes)] for variant, pair in pairs
        ],
        hovertemplate="%{customdata[0]}<br>%{x:+.4f}, %{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    )
    names = [broken(marked(variant.label, variant.leaks)) for variant, _ in pairs]
    title = {"text": f"{metric}, difference to {broken(base)}"}
    x_axis = {"title": title, "zeroline": True, "nticks": 6, "tickangle": 0}
    places = list(range(len(pairs)))
    y_axis = {"tickvals": places, "ticktext": names, "autorange": "reversed", "showgrid": False}
    return plot([bars], x_axis, y_axis, height=ROOM + BAR * len(pairs), showlegend=False, bargap=0.35)
