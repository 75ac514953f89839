"""Daggers: the best row of a board against the second, in each metric."""

from __future__ import annotations

import json
from pathlib import Path

from harness.protocol.protocol import METRICS
from harness.reports.comparison import compare
from harness.reports.formats import sheet
from harness.reports.lead_tests import DAGGER, with_leads
from harness.reports.leaderboard import Board, boards
from harness.reports.selection import choose
from harness.store.run_store import Store
from tests.reports.conftest import Make, render
from tests.store.made import put


def _board(store: Store, *metrics: str) -> Board:
    (board,) = boards(store.query())
    return with_leads(board, metrics or ("ndcg@10",))


def test_a_lead_beyond_chance_has_a_dagger(store: Store, make_run: Make) -> None:
    make_run("strong", 1), make_run("strong", 2), make_run("weak", 3, shift=12)
    board = _board(store, "ndcg@10", "recall@10")
    first, second = board.leads
    assert first.significant and (first.a, first.b) == ("strong", "weak")
    expected = compare(choose(store, ["strong", "weak"]), ("ndcg@10", "recall@10")).pairs
    assert (first, second) == expected, "the test is `harness compare`'s"
    table = sheet(board, "ndcg@10")
    daggers = [[cell.endswith(DAGGER) for cell in line.texts] for line in table.lines]
    assert [sum(row) for row in daggers] == [2, 0] and f"{DAGGER} the best is better" in table.notes[0]
    assert "120 users, corrected by Holm for 2 metrics" in table.notes[0]
    for form in ("table", "markdown", "html"):
        assert render([board], form, "ndcg@10").count(DAGGER) == 3
    assert render([board], "latex", "ndcg@10").count(r"$^{\dagger}$}") == 2
    (document,) = json.loads(render([board], "json", "ndcg@10"))
    assert [pair["significant"] for pair in document["leads"]] == [True, True]


def test_chance_has_none(store: Store, make_run: Make) -> None:
    make_run("one", 1), make_run("other", 2)
    table = sheet(_board(store), "ndcg@10")
    assert DAGGER not in "".join(cell for line in table.lines for cell in line.texts)
    assert table.notes[0].startswith("No lead of the best over the second is significant")


def test_a_leaking_row_takes_no_part(store: Store, make_run: Make) -> None:
    make_run("leaky", 1, shift=-8, leaks=["sees the answers"]), make_run("fair", 2), make_run("weak", 3, shift=12)
    (pair,) = _board(store).leads
    assert (pair.a, pair.b) == ("fair", "weak")


def test_one_row_or_a_shared_best_is_not_tested(store: Store, make_run: Make) -> None:
    make_run("one", 1)
    assert _board(store).leads == () and _board(store).untested == ""
    make_run("same", 1)
    assert _board(store).leads == () and sheet(_board(store), "ndcg@10").notes == ()


def test_a_board_without_its_data_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    put(store, model="a", value=0.5), put(store, model="b", value=0.4)
    board = _board(store, *METRICS)
    assert board.leads == () and board.untested.startswith("no lead is tested: ")
    assert board.untested in sheet(board, "ndcg@10").notes


def test_a_board_of_records_alone_says_that_lists_are_not_stored(store: Store, make_run: Make) -> None:
    make_run("one", 1), make_run("other", 5)
    for lists in store.runs.glob("one/*/*/predictions.parquet"):
        lists.unlink()
    board = _board(store)
    assert [row.model for row in board.rows] == ["one", "other"] and board.leads == ()
    assert "predictions.parquet: not stored here, only its record is" in board.untested
