"""The report card of a board: metrics by groups of users, and properties of the lists.

Values are means over seeds; intervals have users as sampling unit. `harness.evaluation.card` defines the groups and
measures.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.errors import InputError
from harness.evaluation.card import (
    GROUPS,
    HEAD,
    LONG,
    RARE,
    Group,
    K,
    case_groups,
    data_card,
    group_metrics,
    list_measures,
)
from harness.evaluation.significance import LEVEL
from harness.protocol.protocol import unit_of
from harness.reports.leaderboard import Board, Row
from harness.reports.per_user import Measured, measured
from harness.reports.tables import DIGITS, Column, ReportTable, TableRow

MEASURES = {
    "coverage": f"coverage@{K}",
    "gini": f"Gini@{K}",
    "novelty": f"novelty@{K} (bits)",
    "popularity_share": f"head share@{K}",
}
ABOUT = (
    "memorised: the target followed the user's last item in training; one hop: not so, but a training sequence has it "
    f"with another item of the history. cold, rare, warm: 0, 1 to {RARE - 1}, {RARE} or more training interactions of "
    f"the target. head: the {HEAD:.0%} of items bought most in training. history: items before the target, at "
    f"most {LONG} or more than that."
)
LISTS = (
    f"In the first {K} items of each list: coverage, the share of the catalogue listed; Gini, inequality of how often "
    "items are listed; novelty, mean self-information; head share, listed items of the head."
)


def with_card(board: Board, metric: str, location: str | None = None) -> Board:
    """The board with the card of its data and of every row that was measured here. `location` is the data set's name or
    folder, if the runs' configuration does not have it. If data or lists are missing, the card says so."""
    runs = [run for row in board.rows for run in row.runs]
    if not runs:
        return board
    try:
        base = measured(runs, location)
    except InputError as error:
        return replace(board, card={"missing": [f"no report card: {error}"]})
    current_board, missing = on_data(board, metric, base)
    return replace(current_board, card={**current_board.card, "missing": missing})


def on_data(board: Board, metric: str, base: Measured) -> tuple[Board, list[str]]:
    """Adds the cards, given the data; also returns a message for each row without a card."""
    groups = case_groups(base.split)
    rows, missing = [], []
    for row in board.rows:
        try:
            rows.append(replace(row, card=_of(row, metric, base, groups)) if row.runs else row)
        except InputError as error:
            rows.append(row)
            missing.append(f"{row.model} has no report card: {error}")
    return replace(board, rows=tuple(rows), card=data_card(base.split, groups)), missing


def texts(row: Row) -> dict[str, str]:
    """A row's card as columns; empty texts where it has none."""
    if not row.card:
        return dict.fromkeys([*(name for names in GROUPS.values() for name in names), *MEASURES.values()], "")
    entries = {part["name"]: _number(part["mean"]) for part in row.card["groups"]}
    return entries | _measures(row)


def notes(board: Board) -> list[str]:
    """Sizes and definitions of the groups, or why there is no card."""
    missing = list(board.card.get("missing", []))
    if "groups" not in board.card:
        return missing
    return [f"{_sizes(board.card)}.", f"{ABOUT} {LISTS}", *missing]


def sheets(board: Board, metric: str) -> list[ReportTable]:
    """Tables of each row's metric and interval by group, and of the properties of the lists."""
    rows = [row for row in board.rows if row.card]
    total = board.card["users"]
    lines = [
        TableRow(
            (part["name"], f"{part['users']:,}", f"{part['users'] / total:.1%}", *(_bounded(row, n) for row in rows))
        )
        for n, part in enumerate(board.card["groups"])
    ]
    unit = unit_of(board.protocol.name)
    heads = (Column(f"test {unit}", left=True), Column(unit), Column("share"), *(Column(row.model) for row in rows))
    messages = (f"{LEVEL:.0%} intervals by bootstrap over users, for looking: harness compare tests.",)
    report_tables = [ReportTable(f"{metric} by groups of test {unit}", heads, tuple(lines), messages)]
    if rows:
        measures = [TableRow((row.model, *_measures(row).values())) for row in rows]
        columns = (Column("model", left=True), *map(Column, MEASURES.values()))
        report_tables.append(ReportTable(f"What the lists hold, first {K} items", columns, tuple(measures), (LISTS,)))
    return report_tables


def _of(row: Row, metric: str, base: Measured, groups: Sequence[Group]) -> dict[str, Any]:
    values = base.values(row.runs, (metric,))[metric].mean(axis=0)
    lists = [list_measures(base.lists(run), base.split.train) for run in row.runs]
    return {
        "metric": metric,
        "groups": group_metrics(values, groups, base.clusters),
        "lists": {name: _mean([one[name] for one in lists]) for name in MEASURES},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    items = [value for value in values if value is not None]
    return statistics.fmean(items) if items else None


def _measures(row: Row) -> dict[str, str]:
    return {text: _number(row.card["lists"][name]) for name, text in MEASURES.items()}


def _sizes(card: Mapping[str, Any]) -> str:
    parts = [f"{part['name']} {part['users']:,} ({part['share']:.1%})" for part in card["groups"]]
    if "distinct_users" in card:
        return f"Test cases by group, of {card['users']:,} of {card['distinct_users']:,} users: {', '.join(parts)}"
    return f"Test users by group, of {card['users']:,}: {', '.join(parts)}"


def _bounded(row: Row, number: int) -> str:
    part = row.card["groups"][number]
    if part["mean"] is None:
        return "-"
    return f"{part['mean']:.{DIGITS}f} ({part['low']:.{DIGITS}f} to {part['high']:.{DIGITS}f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.{DIGITS}f}"
