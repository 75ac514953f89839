"""Quality against cost, with the Pareto front of rows without leaks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from harness.reports.html.document import Figure, Style, View, log_axis, marker, plot, shown
from harness.reports.leaderboard import Board, Row
from harness.reports.tables import text_table
from harness.reports.values import LEAK, grouped, marked, metric_text

MARGIN = 0.08  # share of the plot's width that the axis leaves free on each side


@dataclass(frozen=True)
class CostAxis:
    """A kind of cost. `less`: whether less is better."""

    key: str
    column: str
    label: str
    axis: str
    less: bool


PRICES = (
    CostAxis("train_s", "train s", "training time", "training time, seconds (log scale)", True),
    CostAxis("users_per_s", "users/s", "ranking speed", "test users ranked a second (log scale)", False),
)


def pareto_front(points: Sequence[tuple[float, float]], *, is_less: bool = True) -> list[int]:
    """Positions of the (cost, quality) points that no other point beats in both, cheapest first; `is_less`: less cost
    is better.

    >>> pareto_front([(1, 0.1), (2, 0.3), (3, 0.2), (2, 0.2)])
    [0, 1]
    >>> pareto_front([(1, 0.1), (2, 0.3), (3, 0.2)], is_less=False)
    [2, 1]
    """
    order = sorted(range(len(points)), key=lambda n: (points[n][0] if is_less else -points[n][0], -points[n][1]))
    results: list[int] = []
    for number in order:
        if not results or points[number][1] > points[results[-1]][1]:
            results.append(number)
    return results


def cost_figures(board: Board, metric: str, selected_rows: Sequence[Row], styles: Mapping[str, Style]) -> list[Figure]:
    """One figure with a view for each kind of cost that rows have, if any."""
    views, notes = [], []
    for price in PRICES:
        rows = [row for row in board.rows if row.rank is not None and row.cost.get(price.key, 0) > 0]
        if not rows:
            continue
        views.append(_cost_view(rows, metric, price, selected_rows, styles))
        missing = [row.model for row in board.rows if row.rank is not None and not row.cost.get(price.key, 0) > 0]
        if missing:
            notes.append(f"Without a measured {price.label}: {', '.join(dict.fromkeys(missing))}.")
    if not views:
        return []
    description = (
        f"Higher is better. The line is the Pareto front: no row on it is beaten in both. Bars are ± one standard "
        f"deviation of {metric} over seeds. Small marks are further configurations of a model."
    )
    if any(row.leaks for row in board.rows):
        description += f" Open marks ({LEAK}) leak and take no part in the front."
    return [Figure("cost", "Quality against cost", description, "against", tuple(views), tuple(notes))]


def _cost_view(
    rows: list[Row], metric: str, price: CostAxis, selected_rows: Sequence[Row], styles: Mapping[str, Style]
) -> View:
    fair = [row for row in rows if not row.leaks]
    front = [fair[n] for n in pareto_front([_point(row, metric, price) for row in fair], is_less=price.less)]
    on_front = {row.rank for row in front}
    lines = [
        {
            "model": marked(row.model, row.leaks),
            price.column: f"{row.cost[price.key]:,.{3 if row.cost[price.key] < 10 else 0}f}",
            metric: metric_text(row.mean(metric), row.std(metric)),
            "on the front": "yes" if row.rank in on_front else "",
            "note": row.note,
        }
        for row in sorted(rows, key=lambda row: (row.cost[price.key] * (1 if price.less else -1), row.rank or 0))
    ]
    title = f"{metric} against {price.label}"
    sheet = text_table(title, lines, left=("model", "on the front"), wraps=("note",))
    message = (
        f"Scatter plot of {metric} against {price.label}, {len(rows)} rows. On the Pareto front, cheapest first: "
        f"{', '.join(row.model for row in front)}. The numbers are in the table below."
    )
    return View(price.label, _cost_plot(rows, front, metric, price, (selected_rows, styles)), message, sheet)


def _cost_plot(
    rows: list[Row],
    front: list[Row],
    metric: str,
    price: CostAxis,
    highlights: tuple[Sequence[Row], Mapping[str, Style]],
) -> go.Figure:
    selected_rows, styles = highlights
    ends, heights = _ends([row.cost[price.key] for row in rows]), _heights(rows, metric)
    selected = {row.rank for row in selected_rows}
    steps = [_point(row, metric, price) for row in front]
    traces: list[go.Scatter] = [
        go.Scatter(
            x=[x for x, _ in steps],
            y=[y for _, y in steps],
            mode="lines",
            line={"shape": "hv", "width": 1.5, "color": "#7A7A7A"},
            name="Pareto front",
            hoverinfo="skip",
        )
    ]
    rest = (row for row in rows if row.rank not in selected)
    groups = grouped(rest, lambda row: (row.model, bool(row.leaks)))
    faint = [_marks(group, metric, price, styles[model]) for (model, _), group in groups.items()]
    traces += [one.update(showlegend=False, opacity=0.55, marker={"size": 6}) for one in faint]
    for row in (row for row in rows if row.rank in selected):
        spread = row.std(metric)
        one = _marks([row], metric, price, styles[row.model])
        one.update(marker={"size": 11})
        traces.append(one.update(error_y=None if spread is None else {"type": "data", "array": [spread], "width": 3}))
    x_axis = log_axis(*ends, price.axis) | {"range": [math.log10(end) for end in ends]}
    return plot(traces, x_axis, {"title": {"text": metric}, "range": list(heights)}, showlegend=True)


def _marks(rows: Sequence[Row], metric: str, price: CostAxis, style: Style) -> go.Scatter:
    """Marks of rows of one model, which all leak or all do not."""
    leaks = bool(rows[0].leaks)
    name = shown(marked(rows[0].model, rows[0].leaks))
    points = [_point(row, metric, price) for row in rows]
    lines = [
        f"{name}<br>{metric} {metric_text(y, row.std(metric))}<br>{price.label} {x:,.3g}<br>{shown(row.note)}"
        for row, (x, y) in zip(rows, points, strict=True)
    ]
    return go.Scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="markers",
        marker=marker(style, leaks=leaks),
        name=name,
        hovertext=lines,
        hoverinfo="text",
    )


def _point(row: Row, metric: str, price: CostAxis) -> tuple[float, float]:
    return row.cost[price.key], row.mean(metric) or 0.0


def _ends(costs: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(costs)), math.log10(max(costs))
    room = max(high - low, 0.5) * MARGIN
    return 10 ** (low - room), 10 ** (high + room)


def _heights(rows: Sequence[Row], metric: str) -> tuple[float, float]:
    bars = [((row.mean(metric) or 0.0), (row.std(metric) or 0.0)) for row in rows]
    low, high = min(mean - spread for mean, spread in bars), max(mean + spread for mean, spread in bars)
    room = max(high - low, 0.1 * high, 1e-6) * 0.1
    return max(low - room, 0.0), high + room
