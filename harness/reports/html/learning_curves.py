"""Learning curves: loss and validation from the runs' logs, by time and by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.protocol.protocol import MAIN_METRIC
from harness.reports.html.document import Figure, Style, View, log_axis, plot, shown, thinned
from harness.reports.leaderboard import Row
from harness.reports.tables import ReportTable, text_table
from harness.store.event_log import read_events
from harness.store.run_store import StoredRun

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

MOST = 300  # points of a curve


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

    def known(self, message: str) -> list[int]:
        """Positions of at most `MOST` points that have a `loss` or a `valid`."""
        places = [place for place, value in enumerate(getattr(self, message)) if value is not None]
        return [places[n] for n in thinned(len(places), MOST)]


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
    selected_curves = [curve for row in rows for run in row.runs for curve in curves(run)]
    silent = [row.model for row in rows if not any(curve.model == row.model for curve in selected_curves)]
    notes = [f"No curve in the log of {', '.join(silent)}."] if silent else []
    results = [_validation(selected_curves, evaluations), _loss(selected_curves, evaluations)]
    return [one for one in results if one is not None], notes


def _validation(selected_curves: Sequence[Curve], evaluations: Mapping[str, Style]) -> Figure | None:
    curves = [curve for curve in selected_curves if curve.known("valid")]
    if not curves:
        return None
    names = _curve_names(curves)
    sheet = _curve_sheet(f"{MAIN_METRIC} on validation cases", curves, "valid", names)
    message = (
        f"Line plot of {MAIN_METRIC} on validation cases while training, {len(curves)} curves: "
        f"{', '.join(dict.fromkeys(names[id(curve)] for curve in curves))}. "
        "Last and best values are in the table below."
    )
    ways = (
        ("seconds", "seconds since the run began (log scale)"),
        ("steps", "optimiser steps or passes of the stage (log scale)"),
    )
    views = []
    for name, title in ways:
        points = [getattr(curve, name)[place] for curve in curves for place in curve.known("valid")]
        above = [point for point in points if point > 0] or [1.0]
        axis = log_axis(min(above), max(above), title)
        views.append(View(name, _lines(curves, "valid", names, evaluations, axis), message, sheet))
    description = (
        f"{MAIN_METRIC} as the run itself measured it to choose its state: on all or on some validation cases, so "
        "levels of different models are only roughly comparable. One line a seed."
    )
    return Figure("validation", "Validation metric while training", description, "by", tuple(views))


def _loss(selected_curves: Sequence[Curve], evaluations: Mapping[str, Style]) -> Figure | None:
    curves = [curve for curve in selected_curves if curve.known("loss")]
    names = _curve_names(curves)
    views = []
    for name in dict.fromkeys(names[id(curve)] for curve in curves):
        group = [curve for curve in curves if names[id(curve)] == name]
        sheet = _curve_sheet(f"Loss of {name}", group, "loss", names)
        first, last = (group[0].loss[group[0].known("loss")[end]] or 0.0 for end in (0, -1))
        message = f"Line plot of the training loss of {name}: from {first:.4g} to {last:.4g}, {len(group)} runs."
        axis = {"title": {"text": {"step": "optimiser step or pass", "epoch": "epoch"}[group[0].unit]}}
        views.append(View(name, _lines(group, "loss", names, evaluations, axis), message, sheet))
    if not views:
        return None
    description = (
        "Each stage has a loss of its own kind, so only lines within one plot may be compared. One line a seed."
    )
    return Figure("loss", "Training loss", description, "of", tuple(views))


def _lines(
    group: Sequence[Curve],
    message: str,
    names: Mapping[int, str],
    evaluations: Mapping[str, Style],
    axis: dict[str, Any],
) -> Plot:
    import plotly.graph_objects as go

    by_time = "seconds" in axis["title"]["text"]
    traces, items = [], set()
    for curve in group:
        places, style, name = curve.known(message), evaluations[curve.model], names[id(curve)]
        x = curve.seconds if by_time else curve.steps
        values: list[Any] = getattr(curve, message)
        few = len(places) <= 40
        traces.append(
            go.Scatter(
                x=[round(x[place], 3) for place in places],
                y=[float(f"{values[place]:.6g}") for place in places],
                mode="lines+markers" if few else "lines",
                line={"color": style.colour, "dash": style.dash, "width": 2},
                marker={"symbol": style.symbol, "size": 6},
                name=shown(name),
                legendgroup=name,
                showlegend=name not in items,
                hovertemplate=f"{shown(name)}, seed {curve.seed}<br>%{{x:,.0f}}: %{{y:.4f}}<extra></extra>",
            )
        )
        items.add(name)
    text = f"{MAIN_METRIC} on validation cases" if message == "valid" else "training loss"
    return plot(traces, axis, {"title": {"text": text}}, showlegend=len(items) > 1)


def _curve_names(selected_curves: Sequence[Curve]) -> dict[int, str]:
    """A model's name, with the stage if it has several."""
    stages: dict[str, set[str]] = {}
    for curve in selected_curves:
        stages.setdefault(curve.model, set()).add(curve.stage)
    return {
        id(curve): f"{curve.model}, {curve.stage}" if len(stages[curve.model]) > 1 else curve.model
        for curve in selected_curves
    }


def _curve_sheet(title: str, group: Sequence[Curve], message: str, names: Mapping[int, str]) -> ReportTable:
    best: Callable[..., int] = min if message == "loss" else max
    lines = []
    for curve in group:
        values: list[Any] = getattr(curve, message)
        places = [place for place, value in enumerate(values) if value is not None]
        at = best(places, key=lambda place: values[place])
        lines.append(
            {
                "curve": names[id(curve)],
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
