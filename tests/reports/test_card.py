"""The report card on boards: columns in every format, intervals in JSON, and rows that cannot have one."""

from __future__ import annotations

import json

import pytest

from harness.reports.extra_columns import card_sheets, with_card
from harness.reports.formats import check_columns, sheet
from harness.reports.leaderboard import boards
from harness.reports.tables import FORMATS
from harness.store.run_store import Store
from tests.reports.conftest import Make, render
from tests.store.made import put


def test_the_card_of_a_board(store: Store, make_run: Make) -> None:
    one, two = make_run("strong", 1), make_run("strong", 2)
    make_run("weak", 3, shift=12)
    (board,) = boards(store.query())
    board = with_card(board, "ndcg@10")
    (document,) = json.loads(render([board], "json", "ndcg@10"))
    first = document["rows"][0]["card"]
    assert first["metric"] == "ndcg@10" and document["card"]["users"] == 120
    for by in ("distance", "training", "popularity", "history"):
        parts = [part for part in first["groups"] if part["by"] == by]
        assert sum(part["users"] for part in parts) == 120
        total = sum(part["users"] * part["mean"] for part in parts if part["mean"] is not None)
        assert total / 120 == pytest.approx((one.mean() + two.mean()) / 2)
        assert all(part["low"] <= part["mean"] <= part["high"] for part in parts if part["mean"] is not None)
    table = sheet(board, "ndcg@10", check_columns("card"))
    names = [column.name for column in table.columns]
    assert "memorised" in names and "coverage@10" in names
    assert any("Test users by group, of 120: memorised" in note for note in table.notes)
    for form in FORMATS:
        assert "memorised" in render([board], form, "ndcg@10", ("card",))
    by_group, lists = card_sheets(board, "ndcg@10")
    assert [len(line.texts) for line in by_group.lines] == [5] * 10 and len(lists.lines) == 2


def test_rows_without_lists_stay_on_the_board(store: Store, make_run: Make) -> None:
    make_run("whole", 1), make_run("gone", 2, shift=12)
    next(store.runs.glob("gone/*/*/predictions.parquet")).unlink()
    (board,) = boards(store.query())
    board = with_card(board, "ndcg@10")
    table = sheet(board, "ndcg@10", ("card",))
    assert {len(line.texts) for line in table.lines} == {len(table.columns)}
    assert any("gone has no report card" in note for note in table.notes)
    assert [bool(row.card) for row in board.rows] == [row.model == "whole" for row in board.rows]


def test_a_board_whose_data_are_not_at_hand_says_so(store: Store) -> None:
    put(store, model="a")
    (board,) = boards(store.query())
    board = with_card(board, "ndcg@10")
    (note,) = [note for note in sheet(board, "ndcg@10", ("card",)).notes if "no report card" in note]
    assert note.startswith("no report card:") and "memorised" in render([board], "markdown", "ndcg@10", ("card",))


def test_boards_say_nothing_of_it_unless_asked(store: Store, make_run: Make) -> None:
    make_run("strong", 1)
    (board,) = boards(store.query())
    (document,) = json.loads(render([board], "json", "ndcg@10"))
    assert "card" not in document and "card" not in document["rows"][0]
    assert "memorised" not in render([board], "csv", "ndcg@10")
