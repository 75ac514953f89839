"""Which rows of a board the figures draw: of each model the configuration that was best on validation cases.

A choice by test metrics would show each model at its luckiest; so rows without validation metrics come last.
"""

from __future__ import annotations

import statistics

from harness.reports.leaderboard import Board, Row

MOST = 14  # models in one figure


def valid(row: Row, metric: str) -> float | None:
    """The mean validation metric over seeds; None where a run has none."""
    found = [run.record.metrics.valid.get(metric) for run in row.runs]
    values = [value for value in found if value is not None]
    return statistics.fmean(values) if values and len(values) == len(found) else None


def chosen(board: Board, metric: str) -> list[Row]:
    """One row a model, in the board's order; the first `MOST` of them."""
    best: dict[str, Row] = {}
    for row in board.rows:
        if row.rank is None:
            continue
        known = best.get(row.model)
        if known is None or _weight(row, metric) > _weight(known, metric):
            best[row.model] = row
    return sorted(best.values(), key=lambda row: row.rank or 0)[:MOST]


def left_out(board: Board, drawn: list[Row]) -> str:
    """What the figures do not show, in words; empty where they show every row."""
    ranked = [row for row in board.rows if row.rank is not None]
    if len(ranked) == len(drawn):
        return ""
    models = len({row.model for row in ranked})
    most = f", and of {models} models the first {len(drawn)}" if models > len(drawn) else ""
    return f"Of each model the configuration that was best on validation cases is drawn{most}."


def _weight(row: Row, metric: str) -> float:
    found = valid(row, metric)
    return -1.0 if found is None else found
