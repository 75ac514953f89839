"""Learning curves: loss and validation from the runs' logs, by time and by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import plotly.graph_objects as go

from harness.protocol.protocol import MAIN_METRIC
from harness.reports.html.document import Figure, Style, View, log_axis, plot, shown, thinned
from harness.reports.leaderboard import Row
from harness.reports.tables import ReportTable, text_table
from harness.store.event_log import read_events
from harness.store.run_store import StoredRun

MOST = 300  # points of a curve
Measure = Literal["loss", "valid"]


@dataclass
class Curve:
    """One stage of one run. `seconds` count from the start of the run, over all its sessions; `steps` are the stage's
    own: optimiser steps or passes, as its log has them. `loss` and `valid` are None if a line lacks them."""

    model: str
    seed: int | None
    stage: str
    unit: str = "step"
    seconds: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    valid: list[float | None] = field(default_factory=list)

    def known(self, measure: Measure) -> list[int]:
        """Positions of at most `MOST` points that have the measure."""
        places = [place for place, value in enumerate(getattr(self, measure)) if value is not None]
        return [places[n] for n in thinned(len(places), MOST)]


NamedCurve = tuple[str, Curve]


def curves(run: StoredRun) -> list[Curve]:
    """The curves of one run, in the order of its stages; empty if its log is missing or has none."""
    entries: dict[str, Curve] = {}
    earlier = last = 0.0
    for event in read_events(run.folder.log):
        if event.get("event") == "session":
            earlier, last = earlier + last, 0.0
        last = _number(event.get("session_seconds", event.get("seconds"))) or last
        stage, step = event.get("stage"), _number(event.get("step", event.get("epoch")))
        loss, valid = _number(event.get("loss")), _number(event.get("valid", event.get(MAIN_METRIC)))
        if "event" in event or not isinstance(stage, str) or step is None or (loss is None and valid is None):
            continue
        curve = entries.setdefault(stage, Curve(run.record.model, run.record.seed, stage))
        curve.unit = "step" if "step" in event else "epoch"
        curve.seconds.append(earlier + last)
        curve.steps.append(step)
        curve.loss.append(loss)
        curve.valid.append(valid)
    return list(entries.values())


def curve_figures(rows: Sequence[Row], evaluations: Mapping[str, Style]) -> tuple[list[Figure], list[str]]:
    """The validation metric of all models in one plot, the loss of each stage in another one; and messages about
    missing curves."""
    every = [curve for row in rows for run in row.runs for curve in curves(run)]
    silent = [row.model for row in rows if not any(curve.model == row.model for curve in every)]
    notes = [f"No curve in the log of {', '.join(silent)}."] if silent else []
    results = (_validation(_named(every, "valid"), evaluations), _loss(_named(every, "loss"), evaluations))
    return [figure for figure in results if figure.views], notes


def _named(curves: Sequence[Curve], measure: Measure) -> list[NamedCurve]:
    """The curves that have a measure, each with its model's name, and its stage if the model has several."""
    measured = [curve for curve in curves if curve.known(measure)]
    stages: dict[str, set[str]] = {}
    for curve in measured:
        stages.setdefault(curve.model, set()).add(curve.stage)
    return [(f"{one.model}, {one.stage}" if len(stages[one.model]) > 1 else one.model, one) for one in measured]


def _validation(curves: Sequence[NamedCurve], evaluations: Mapping[str, Style]) -> Figure:
    message = (
        f"Line plot of {MAIN_METRIC} on validation cases while training, {len(curves)} curves: "
        f"{', '.join(dict(curves))}. Last and best values are in the table below."
    )
    ways = (
        ("seconds", "seconds since the run began (log scale)"),
        ("steps", "optimiser steps or passes of the stage (log scale)"),
    )
    views = []
    for name, title in ways if curves else ():
        sheet = _curve_sheet(f"{MAIN_METRIC} on validation cases", curves, "valid")
        points = [getattr(curve, name)[place] for _, curve in curves for place in curve.known("valid")]
        above = [point for point in points if point > 0] or [1.0]
        axis = log_axis(min(above), max(above), title)
        views.append(View(name, _lines(curves, "valid", evaluations, axis), message, sheet))
    description = (
        f"{MAIN_METRIC} as the run itself measured it to choose its state: on all or on some validation cases, so "
        "levels of different models are only roughly comparable. One line a seed."
    )
    return Figure("validation", "Validation metric while training", description, "by", tuple(views))


def _loss(curves: Sequence[NamedCurve], evaluations: Mapping[str, Style]) -> Figure:
    views = []
    for name in dict(curves):
        group = [pair for pair in curves if pair[0] == name]
        one, sheet = group[0][1], _curve_sheet(f"Loss of {name}", group, "loss")
        first, last = (one.loss[one.known("loss")[end]] or 0.0 for end in (0, -1))
        message = f"Line plot of the training loss of {name}: from {first:.4g} to {last:.4g}, {len(group)} runs."
        axis = {"title": {"text": {"step": "optimiser step or pass", "epoch": "epoch"}[one.unit]}}
        views.append(View(name, _lines(group, "loss", evaluations, axis), message, sheet))
    description = (
        "Each stage has a loss of its own kind, so only lines within one plot may be compared. One line a seed."
    )
    return Figure("loss", "Training loss", description, "of", tuple(views))


def _lines(
    curves: Sequence[NamedCurve], measure: Measure, evaluations: Mapping[str, Style], axis: dict[str, Any]
) -> go.Figure:
    by_time = "seconds" in axis["title"]["text"]
    traces = []
    for number, (name, curve) in enumerate(curves):
        places, style = curve.known(measure), evaluations[curve.model]
        x = curve.seconds if by_time else curve.steps
        values: list[Any] = getattr(curve, measure)
        traces.append(
            go.Scatter(
                x=[round(x[place], 3) for place in places],
                y=[float(f"{values[place]:.6g}") for place in places],
                mode="lines+markers" if len(places) <= 40 else "lines",
                line={"color": style.colour, "dash": style.dash, "width": 2},
                marker={"symbol": style.symbol, "size": 6},
                name=shown(name),
                legendgroup=name,
                showlegend=name not in dict(curves[:number]),
                hovertemplate=f"{shown(name)}, seed {curve.seed}<br>%{{x:,.0f}}: %{{y:.4f}}<extra></extra>",
            )
        )
    text = f"{MAIN_METRIC} on validation cases" if measure == "valid" else "training loss"
    return plot(traces, axis, {"title": {"text": text}}, showlegend=len(dict(curves)) > 1)


def _curve_sheet(title: str, curves: Sequence[NamedCurve], measure: Measure) -> ReportTable:
    best: Callable[..., int] = min if measure == "loss" else max
    lines = []
    for name, curve in curves:
        values: list[Any] = getattr(curve, measure)
        places = [place for place, value in enumerate(values) if value is not None]
        at = best(places, key=lambda place: values[place])
        lines.append(
            {
                "curve": name,
                "seed": "" if curve.seed is None else str(curve.seed),
                "points": f"{len(places):,}",
                "first": f"{values[places[0]]:.4f}",
                "last": f"{values[places[-1]]:.4f}",
                "best": f"{values[at]:.4f}",
                "best at": f"{curve.unit} {curve.steps[at]:,.0f}",
                "best at s": f"{curve.seconds[at]:,.0f}",
            }
        )
    return text_table(title, lines, left=("curve",))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
