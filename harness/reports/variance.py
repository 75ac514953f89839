"""The table of `harness ablate --factor`: components of variance, and the least detectable differences."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from harness.evaluation.significance import ALPHA, LEVEL, POWER
from harness.evaluation.variance import Component, Components
from harness.reports.tables import DIGITS, Column, ReportTable, TableRow

WORDS = {
    "tokenizer": "seed of the tokenizer",
    "model": "seed of the model",
    "residual": "residual (interaction of both)",
    "users": "draw of the users",
}
PLACES = DIGITS + 1  # more digits than for means, since deviations are smaller


def sheet(title: str, components: Components) -> ReportTable:
    """The table, ready to print: standard deviations of the mean metric with their intervals, and the notes."""
    heads = (
        Column("source", left=True),
        Column("df"),
        Column("deviation of the mean", main=True),
        Column("interval"),
        Column("share of the seeds' variance"),
    )
    seeds = sum(one.variance for one in components.components if one.source != "users")
    lines = [TableRow(_cells(one, seeds), apart=one.source == "users") for one in components.components]
    return ReportTable(title, heads, tuple(lines), tuple(_notes(components)))


def document(title: str, metric: str, components: Components) -> dict[str, Any]:
    """The JSON document, unrounded."""
    entries = {name: value for name, value in asdict(components).items() if name != "components"}
    parts = [{**asdict(one), "deviation": one.deviation} for one in components.components]
    return {"title": title, "metric": metric, **entries, "alpha": ALPHA, "power": POWER, "components": parts}


def csv_text(components: Components) -> str:
    """One line for each component, unrounded."""
    out = io.StringIO()
    rows = [{**asdict(one), "deviation": one.deviation} for one in components.components]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _cells(one: Component, seeds: float) -> tuple[str, ...]:
    interval = "" if one.low is None or one.high is None else f"{_text(one.low**0.5)} to {_text(one.high**0.5)}"
    share = "" if one.source == "users" or not seeds else f"{one.variance / seeds:.0%}"
    return WORDS[one.source], f"{one.freedom:,}", _text(one.deviation), interval, share


def _notes(components: Components) -> list[str]:
    seeds, users = components.model_seeds, f"{components.users:,} users"
    if components.cases != components.users:
        users = f"{components.cases:,} cases of {users}"
    runs, method = f"{seeds} seeds", f"{LEVEL:.0%} intervals by chi squared"
    if components.tokenizer_seeds > 1:
        runs = f"{components.tokenizer_seeds} tokenizer seeds x {seeds} model seeds"
        method = (
            f"Two-way random-effects ANOVA (Searle et al. 1992), {LEVEL:.0%} intervals by Williams and Tukey, of the "
            "residual by chi squared"
        )
    return [
        f"Mean {components.mean:.{DIGITS}f} over {runs}, {users}. {method}; few seeds leave them wide.",
        f"Least difference (p ≤ {ALPHA}, power {POWER:.0%}): {_text(components.least_users)} by a paired test over the "
        f"users alone; {_text(components.least_seeds)} over seeds with one run a row, "
        f"{_text(components.least_rows)} with {seeds}; over both, with {seeds} runs a row, "
        f"{_text(components.least_both)}.",
    ]


def _text(value: float) -> str:
    return f"{value:.{PLACES}f}"
