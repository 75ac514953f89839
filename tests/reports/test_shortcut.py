"""The shortcut score: the best training-free row against the best row, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.protocol.protocol import METRICS
from harness.reports.lead_tests import shortcut_note, shortcut_score
from harness.reports.leaderboard import Board, boards
from harness.reports.tables import FORMATS
from harness.store.run_store import Store
from tests.reports.conftest import render
from tests.store.made import put


def board(folder: Path, *rows: dict[str, Any]) -> Board:
    store = Store(folder / "results")
    for row in rows:
        put(store, **row)
    return boards(store.query())[0]


def test_the_best_training_free_row_divided_by_the_best(tmp_path: Path) -> None:
    result = board(
        tmp_path,
        {"model": "counts", "value": 0.3},
        {"model": "near", "value": 0.4},
        {"model": "deep", "value": 0.4, "seed": 1, "family": "llm"},
        {"model": "deep", "value": 0.6, "seed": 2, "family": "llm"},
        {"model": "leaky", "value": 0.9, "family": "llm", "leaks": ["it saw the answers"]},
    )
    assert shortcut_score(result.rows, "ndcg@10") == pytest.approx(0.4 / 0.5)
    note = "¶ training-free. Shortcut score 0.80 by ndcg@10: near (0.4000), the best of these, divided by deep (0.5000)"
    assert shortcut_note(result.rows, "ndcg@10") == note
    assert [row.model for row in result.rows] == ["leaky", "deep", "near", "counts"]  # best first, whatever the family
    (document,) = json.loads(render([result], "json", "ndcg@10"))
    assert document["shortcut_score"] == pytest.approx(0.8)
    for form in FORMATS:
        text = render([result], form, "ndcg@10")
        assert ("Shortcut score 0.80" in text) == (form not in ("csv", "json"))
        assert ("near ¶" in text) == ("counts ¶" in text) == (form not in ("csv", "json"))
        assert "deep ¶" not in text and "leaky ¶" not in text


def test_a_training_free_row_may_be_the_best(tmp_path: Path) -> None:
    low = dict.fromkeys(METRICS, 0.4) | {"mrr@10": 0.1}
    result = board(
        tmp_path, {"model": "near", "metrics": {"test": low}}, {"model": "deep", "value": 0.2, "family": "recbole"}
    )
    assert shortcut_score(result.rows, "ndcg@10") == 1.0
    note = "Shortcut score 1.00 by ndcg@10: near (0.4000) is the best row, deep (0.2000) the best trained one"
    assert note in render([result], "markdown", "ndcg@10")
    assert shortcut_score(result.rows, "mrr@10") == pytest.approx(0.5)  # by the board's metric


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("families", [("sanity", "sanity"), ("llm", "recbole"), ("sanity", "llm")])
def test_no_score_without_both_kinds_or_above_nothing(value: float, families: tuple[str, str], tmp_path: Path) -> None:
    rows = [{"model": f"m{n}", "value": value, "family": family} for n, family in enumerate(families)]
    result = board(tmp_path, *rows)
    scored = value > 0 and families == ("sanity", "llm")
    assert (shortcut_score(result.rows, "ndcg@10") is not None) == scored
    assert ("¶" in render([result], "table", "ndcg@10")) == scored
