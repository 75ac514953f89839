"""A board's shortcut score: the best training-free model relative to the best row.

Rows of training-free models (family `sanity`) are marked, and the score is printed below the board. Near 1, counts and
nearest neighbours solve the benchmark, and a lead on it is weak evidence. After arXiv 2605.07125.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.reports.leaderboard import Row
from harness.reports.tables import DIGITS

TRAINING_FREE = "sanity"
FREE = "¶"  # mark of a training-free model


def shortcut_score(rows: Sequence[Row], metric: str) -> float | None:
    """The best training-free row divided by the best row, by the mean of `metric`: at most 1. None if either kind of
    row is missing or the best is 0. Rows that leak or were not measured here are left out."""
    return None if (two := _best(rows, metric)) is None else two[0][0] / max(two)[0]


def shortcut_note(rows: Sequence[Row], metric: str) -> str:
    """The note below a board; empty if it has no score."""
    if (two := _best(rows, metric)) is None:
        return ""
    (free, free_name), (trained, trained_name) = two
    score, free_text, trained_text = free / max(free, trained), f"{free:.{DIGITS}f}", f"{trained:.{DIGITS}f}"
    if free >= trained:
        message = f"{free_name} ({free_text}) is the best row, {trained_name} ({trained_text}) the best trained one"
    else:
        message = f"{free_name} ({free_text}), the best of these, divided by {trained_name} ({trained_text})"
    return f"{FREE} training-free. Shortcut score {score:.2f} by {metric}: {message}"


def _best(rows: Sequence[Row], metric: str) -> list[tuple[float, str]] | None:
    """Value and model of the best training-free row, then of the best trained one."""
    results = []
    for free in (True, False):
        side = [row for row in rows if row.rank is not None and not row.leaks and (row.family == TRAINING_FREE) == free]
        values = [(value, row.model) for row in side if (value := row.mean(metric)) is not None]
        if not values:
            return None
        results.append(max(values, key=lambda pair: pair[0]))
    return results if max(results)[0] > 0 else None
