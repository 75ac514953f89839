"""A metric by groups of test users: by length of the history, and by popularity of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from harness.core.seeding import generator
from harness.errors import InputError
from harness.evaluation.significance import LEVEL, mean_interval
from harness.protocol.protocol import unit_of
from harness.reports.comparison import groups, range_text, ways
from harness.reports.html.document import Figure, Style, View, error_bars, marker, plot, shown
from harness.reports.leaderboard import Row
from harness.reports.per_user import Measured
from harness.reports.tables import text_table
from harness.reports.values import marked, metric_text

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


def group_figures(
    base: Measured, rows: Sequence[Row], metrics: Sequence[str], evaluations: Mapping[str, Style]
) -> tuple[list[Figure], list[str]]:
    """One figure for each grouping of users, with one view a metric, none without values; and a message for each row
    without usable lists."""
    values: dict[int, Mapping[str, np.ndarray]] = {}  # of each row by its index, means over seeds, float64 (users,)
    notes = []
    for number, row in enumerate(rows):
        try:
            of_seeds = base.values(row.runs, metrics)
        except InputError as error:
            notes.append(f"{row.model} is not in the figures by history length and item popularity: {error}")
            continue
        values[number] = {metric: of_seeds[metric].mean(axis=0) for metric in metrics}
    unit = unit_of(base.split.protocol.name)
    results = []
    for by, sizes in ways(base.split).items() if values else ():
        ranges = groups(sizes)
        lows, labels = [low for low, _ in ranges], [range_text(*ends) for ends in ranges]
        masks = [(sizes >= low) & (sizes <= high) for low, high in ranges]
        counts = [f"{mask.sum():,} {unit}" for mask in masks]
        name, title, axis, description = TOLD[by]
        views = []
        for metric in metrics:
            cells = {
                number: [
                    mean_interval(one[metric], mask, generator(SEED, "report", by, low), RESAMPLES, base.clusters)
                    for low, mask in zip(lows, masks, strict=True)
                ]
                for number, one in values.items()
            }
            lines = [
                {
                    "model": rows[number].model,
                    **{
                        f"{label} ({size})": f"{metric_text(mean)} ({low:.4f} to {high:.4f})"
                        for label, size, (mean, low, high) in zip(labels, counts, row_cells, strict=True)
                    },
                }
                for number, row_cells in cells.items()
            ]
            sheet = text_table(f"{metric} by {by}", lines, left=("model",))
            ticks = [f"{label}<br>{size}" for label, size in zip(labels, counts, strict=True)]
            figure = _group_plot(rows, cells, ticks, evaluations, (metric, axis))
            message = (
                f"Dot plot of {metric} by {axis}, {len(cells)} models in {len(labels)} groups. See the table below."
            )
            views.append(View(metric, figure, message, sheet))
        text = (
            f"{description} Bars are {LEVEL:.0%} bootstrap intervals over users; they are no test (harness compare is)."
        )
        results.append(Figure(name, title, text, "of", tuple(views)))
    return results, notes


def _group_plot(
    rows: Sequence[Row],
    cells: Mapping[int, Sequence[tuple[float, float, float]]],
    ticks: Sequence[str],
    evaluations: Mapping[str, Style],
    words: tuple[str, str],
) -> go.Figure:
    metric, axis = words
    traces = []
    for place, (number, selected_cells) in enumerate(cells.items()):
        row = rows[number]
        style, name = evaluations[row.model], shown(marked(row.model, row.leaks))
        shift = ((place + 0.5) / len(cells) - 0.5) * SPREAD
        traces.append(
            go.Scatter(
                x=[round(group + shift, 4) for group in range(len(selected_cells))],
                y=[mean for mean, _, _ in selected_cells],
                error_y=error_bars(selected_cells, width=0, thickness=1.2),
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
