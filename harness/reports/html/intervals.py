"""Figures with intervals over users: differences of the variants of each stored ablation, and a metric by groups of
test users (length of the history, popularity of the target).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.seeding import generator
from harness.errors import InputError
from harness.evaluation.significance import LEVEL, bootstrap_ci
from harness.protocol.protocol import unit_of
from harness.reports.ablation import AblationTable, Variant, ablation_table, sheet
from harness.reports.comparison import Pair, groups, ways
from harness.reports.html.document import COLOURS, Figure, Style, View, broken, error_bars, marker, plot, shown
from harness.reports.leaderboard import Row
from harness.reports.per_user import Measured
from harness.reports.tables import text_table
from harness.reports.values import marked, metric_text
from harness.store.record import RunKey
from harness.store.run_store import Store, StoredRun, Unreadable, read_record

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

BAR, ROOM = 34, 110  # pixels of a bar and its gap, and of the axis
SCHEMA = 1
RESAMPLES = 2_000  # resamples of an interval that is not a test
SEED = 1
SPREAD = 0.62  # share of a group's width that its marks take
TOLD = {
    "history length": (
        "history",
        "By history length",
        "items in a user's history before the target",
        "Who is served: users by how many items they had before the target, in groups of about equal size.",
    ),
    "target's training count": (
        "popularity",
        "By item popularity",
        "training interactions of the target item",
        "What is found: users by how often their target occurs in training, in groups of about equal size; 0 is an "
        "item that no model saw.",
    ),
}


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
                    (metric, *_others(metric, metrics)),
                    base,
                )
                for metric in metrics
            }
        except InputError as error:
            notes.append(f"The grid {grid.name} ({grid.path.name}) is not drawn: {error}")
            continue
        views = [_grid_view(table, metric) for metric, table in tables.items() if table.found is not None]
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


def _others(metric: str, metrics: Sequence[str]) -> list[str]:
    return [name for name in metrics if name != metric]


def _grid(store: Store, path: Path, document: dict[str, Any]) -> Grid:
    model, dataset = document["model"], document["dataset"]
    variants = []
    for row in document["rows"]:
        slots = [slot for slot in document["runs"] if slot["cell"] == row["name"]]
        runs = [_run(store, RunKey(model, dataset, slot["run_id"])) for slot in slots if slot["state"] == "complete"]
        reasons = tuple(slot["reason"] for slot in slots if slot["state"] == "failed")
        stored_runs = tuple(run for run in runs if run is not None)
        variants.append(Variant(row["name"], stored_runs, row["changes"], len(slots), reasons))
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
    pairs = [(variant, pair) for variant in table.variants if (pair := table.pair(variant)) is not None]
    worse = [variant.label for variant, pair in pairs if pair.significant and pair.found.difference < 0]
    better = [variant.label for variant, pair in pairs if pair.significant and pair.found.difference > 0]
    message = (
        f"Bar chart of differences in {metric} to {table.variants[0].label}, {len(pairs)} variants. "
        f"Significantly lower: {', '.join(worse) or 'none'}. Significantly higher: {', '.join(better) or 'none'}."
    )
    return View(metric, _grid_plot(pairs, metric, table.variants[0].label), message, sheet(table))


def _grid_plot(pairs: Sequence[tuple[Variant, Pair]], metric: str, base: str) -> Plot:
    import plotly.graph_objects as go

    differences = [pair.found for _, pair in pairs]
    colours = [COLOURS[1] if one.difference < 0 else COLOURS[0] for one in differences]
    bars = go.Bar(
        orientation="h",
        y=list(range(len(pairs))),
        x=[one.difference for one in differences],
        error_x=error_bars([(one.low, one.difference, one.high) for one in differences], width=4, thickness=1.4),
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
    x_axis = {
        "title": {"text": f"{metric}, difference to {broken(base)}"},
        "zeroline": True,
        "nticks": 6,
        "tickangle": 0,
    }
    y_axis = {
        "tickvals": list(range(len(pairs))),
        "ticktext": names,
        "autorange": "reversed",
        "showgrid": False,
    }
    return plot([bars], x_axis, y_axis, height=ROOM + BAR * len(pairs), showlegend=False, bargap=0.35)


@dataclass(frozen=True)
class Cell:
    """One model in one group. `low` and `high` bound the mean (bootstrap over users)."""

    mean: float
    low: float
    high: float


def group_values(
    base: Measured, rows: Sequence[Row], metrics: Sequence[str]
) -> tuple[dict[int, dict[str, np.ndarray]], list[str]]:
    """Each row's values of each metric by its index, means over seeds, float64 (users,); and a message for each row
    without usable lists."""
    entries, notes = {}, []
    for number, row in enumerate(rows):
        try:
            values = base.values(row.runs)
        except InputError as error:
            notes.append(f"{row.model} is not in the figures by history length and item popularity: {error}")
            continue
        entries[number] = {metric: values[metric].mean(axis=0) for metric in metrics}
    return entries, notes


def group_figures(
    base: Measured,
    rows: Sequence[Row],
    values: Mapping[int, Mapping[str, np.ndarray]],
    evaluations: Mapping[str, Style],
) -> list[Figure]:
    """One figure for each grouping of users, with one view a metric; none without values."""
    if not values:
        return []
    metrics = list(next(iter(values.values())))
    unit = unit_of(base.split.protocol.name)
    results = []
    for by, sizes in ways(base.split).items():
        ranges = groups(sizes)
        name, title, axis, description = TOLD[by]
        views = []
        for metric in metrics:
            cells = {
                number: [
                    _cell(one[metric], (sizes >= low) & (sizes <= high), by, low, base.clusters) for low, high in ranges
                ]
                for number, one in values.items()
            }
            counts = [int(((sizes >= low) & (sizes <= high)).sum()) for low, high in ranges]
            labels = [f"{low}" if low == high else f"{low} to {high}" for low, high in ranges]
            lines = [
                {
                    "model": rows[number].model,
                    **{
                        f"{label} ({count:,} {unit})": f"{metric_text(cell.mean)} ({cell.low:.4f} to {cell.high:.4f})"
                        for label, count, cell in zip(labels, counts, row_cells, strict=True)
                    },
                }
                for number, row_cells in cells.items()
            ]
            sheet = text_table(f"{metric} by {by}", lines, left=("model",))
            ticks = [f"{label}<br>{count:,} {unit}" for label, count in zip(labels, counts, strict=True)]
            figure = _group_plot(rows, cells, ticks, evaluations, (metric, axis))
            message = (
                f"Dot plot of {metric} by {axis}, {len(cells)} models in {len(ranges)} groups. See the table below."
            )
            views.append(View(metric, figure, message, sheet))
        text = (
            f"{description} Bars are {LEVEL:.0%} bootstrap intervals over users; they are no test (harness compare is)."
        )
        results.append(Figure(name, title, text, "of", tuple(views)))
    return results


def _cell(values: np.ndarray, rows: np.ndarray, by: str, low: int, clusters: np.ndarray | None) -> Cell:
    users = None if clusters is None else clusters[rows]
    bounds = bootstrap_ci(values[rows], generator(SEED, "report", by, low), resamples=RESAMPLES, clusters=users)
    return Cell(float(values[rows].mean()), *bounds)


def _group_plot(
    rows: Sequence[Row],
    cells: Mapping[int, Sequence[Cell]],
    ticks: Sequence[str],
    evaluations: Mapping[str, Style],
    words: tuple[str, str],
) -> Plot:
    import plotly.graph_objects as go

    metric, axis = words
    traces = []
    for place, (number, selected_cells) in enumerate(cells.items()):
        row = rows[number]
        style, name = evaluations[row.model], shown(marked(row.model, row.leaks))
        shift = ((place + 0.5) / len(cells) - 0.5) * SPREAD
        traces.append(
            go.Scatter(
                x=[round(group + shift, 4) for group in range(len(selected_cells))],
                y=[cell.mean for cell in selected_cells],
                error_y=error_bars(
                    [(cell.low, cell.mean, cell.high) for cell in selected_cells], width=0, thickness=1.2
                ),
                mode="markers",
                marker=marker(style, leaks=bool(row.leaks), size=8),
                name=name,
                hovertemplate=f"{name}<br>{metric} %{{y:.4f}}<extra></extra>",
            )
        )
    edges = [
        {
            "type": "line",
            "x0": at - 0.5,
            "x1": at - 0.5,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"width": 1, "color": "#7A7A7A", "dash": "dot"},
        }
        for at in range(1, len(ticks))
    ]
    x_axis = {
        "tickvals": list(range(len(ticks))),
        "ticktext": list(ticks),
        "title": {"text": axis},
        "showgrid": False,
        "range": [-0.5, len(ticks) - 0.5],
    }
    return plot(
        traces, x_axis, {"title": {"text": metric}, "rangemode": "tozero"}, shapes=edges, showlegend=len(cells) > 1
    )
