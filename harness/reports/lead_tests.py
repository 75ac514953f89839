"""Notes below a board: significance of its leads, and its shortcut score.

In each metric the best row is tested against the second, paired by user. A dagger states that these two rows differ,
not that the first one is the best of all models.

The shortcut score is the best training-free row (family `sanity` or an ensemble of it) relative to the best row. Near
1, counts and nearest neighbours solve the benchmark, and a lead on it is weak evidence. After arXiv 2605.07125.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.errors import InputError
from harness.evaluation.significance import ALPHA, POWER
from harness.reports.comparison import tested
from harness.reports.leaderboard import Board, Row
from harness.reports.per_user import measured
from harness.reports.selection import RunGroup
from harness.reports.values import DIGITS

DAGGER = "†"
FREE = "¶"  # mark of a training-free model


def with_leads(board: Board, metrics: Sequence[str], location: str | None = None) -> Board:
    """The board with its best row tested against its second in each of `metrics`, corrected together. Rows that leak or
    were not measured here are left out, and metrics with a tied best. `location`: the data set's name or folder, if the
    runs' configuration does not have it. If data or lists are missing, the board says why nothing was tested."""
    tests = [(*two, metric) for metric in metrics if (two := _two_best(board.rows, metric)) is not None]
    if not tests:
        return board
    sides = [RunGroup(row.model, row.runs) for row in board.rows]
    try:
        base = measured(sides[tests[0][0]].runs, location)
        values = {number: base.values(sides[number].runs) for number in sorted({n for *two, _ in tests for n in two})}
    except InputError as error:
        return replace(board, untested=f"no lead is tested: {error}")
    return replace(board, leads=tested(sides, values, tests, base))


def lead_notes(board: Board) -> list[str]:
    """Explains the dagger or its absence, and gives the least difference that a board of this size can detect."""
    if not board.leads:
        return [board.untested]
    users, count = board.leads[0].found.users, len(board.leads)
    message = f"No lead of the best over the second is significant (randomisation test, corrected p > {ALPHA})."
    if any(pair.significant for pair in board.leads):
        number = f", corrected by Holm for {count} metrics" if count > 1 else ""
        message = (
            f"{DAGGER} the best is better than the second: randomisation test, paired over {users:,} users{number}, "
            f"p ≤ {ALPHA}."
        )
    least = ", ".join(f"{pair.found.least:.{DIGITS}f} {pair.metric}" for pair in board.leads)
    return [
        message,
        f"Least difference that {users:,} users tell apart, two rows as unlike as the first two "
        f"(uncorrected p ≤ {ALPHA}, power {POWER:.0%}, without the spread over seeds): {least}.",
    ]


def _two_best(rows: Sequence[Row], metric: str) -> tuple[int, int] | None:
    """Indices of the best row and of the second, if their formatted values differ."""
    means = [(-mean, number) for number, row in enumerate(rows) if row.fair and (mean := row.mean(metric)) is not None]
    best = sorted(means)[:2]
    if len(best) < 2 or round(best[0][0], DIGITS) == round(best[1][0], DIGITS):
        return None
    return best[0][1], best[1][1]


def shortcut_score(rows: Sequence[Row], metric: str) -> float | None:
    """The best training-free row divided by the best row, by the mean of `metric`: at most 1. None if either kind of
    row is missing or the best is 0. Rows that leak or were not measured here are left out."""
    return None if (two := _best(rows, metric)) is None else two[0][0] / max(two)[0]


def shortcut_note(rows: Sequence[Row], metric: str) -> str:
    """The note below a board; empty if it has no score."""
    if (two := _best(rows, metric)) is None:
        return ""
    (free, _), (trained, _) = two
    free_text, trained_text = (f"{model} ({value:.{DIGITS}f})" for value, model in two)
    message = f"{free_text}, the best of these, divided by {trained_text}"
    if free >= trained:
        message = f"{free_text} is the best row, {trained_text} the best trained one"
    return f"{FREE} training-free. Shortcut score {free / max(free, trained):.2f} by {metric}: {message}"


def _best(rows: Sequence[Row], metric: str) -> list[tuple[float, str]] | None:
    """Value and model of the best training-free row, then of the best trained one."""
    results = []
    for free in (True, False):
        side = [row for row in rows if row.fair and row.training_free == free]
        values = [(value, row.model) for row in side if (value := row.mean(metric)) is not None]
        if not values:
            return None
        results.append(max(values, key=lambda pair: pair[0]))
    return results if max(results)[0] > 0 else None
