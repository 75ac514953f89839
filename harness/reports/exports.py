"""Boards for other programs: csv and json, every digit kept."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from harness.reports.leaderboard import Board, Row, cells, place
from harness.reports.shortcut import shortcut_score
from harness.reports.tuning_effort import unequal


def as_csv(boards: Sequence[Board]) -> str:
    """One line a row of a board, a column for everything that any row has."""
    out = io.StringIO()
    rows = [{**place(board), **cells(row), **_card(row)} for board in boards for row in board.rows]
    names = dict.fromkeys({"dataset": "", "board": "", **cells(Row("", "", (), {}, {}, {}))})
    names.update(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(boards: Sequence[Board], metric: str) -> str:
    """A list of boards with their rows."""
    document = [
        {
            "dataset": {"name": board.dataset.name} if board.alone else board.dataset.model_dump(),
            "protocol": None if board.alone else board.protocol.model_dump(),
            "metric": metric,
            "apart": board.apart,
            "shortcut_score": shortcut_score(board.rows, metric),
            "effort": unequal(board.efforts),
            "leads": [pair.document() for pair in board.leads],
            "untested": board.untested,
            **({"card": board.card} if board.card else {}),
            "rows": [
                {**cells(row), "leaks": list(row.leaks), "seeds": list(row.seeds), "run_ids": list(row.run_ids)}
                | ({"command": row.command} if row.command else {})
                | ({"card": row.card} if row.card else {})
                for row in board.rows
            ],
        }
        for board in boards
    ]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _card(row: Row) -> dict[str, float | None]:
    """The means of the report card, where there is one."""
    if not row.card:
        return {}
    groups = {part["name"]: part["mean"] for part in row.card["groups"]}
    return {f"card.{name}": value for name, value in {**groups, **row.card["lists"]}.items()}
