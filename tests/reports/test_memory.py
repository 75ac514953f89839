"""The stored probe of a language model stands beside the rows that began from its weights, and beside no other."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.reports.extra_columns import with_memory
from harness.reports.formats import row_texts
from harness.reports.leaderboard import Board, boards
from harness.store.record import memory_file, read_document, write_document
from harness.store.run_store import Store
from tests.reports.conftest import render
from tests.store.made import put

DATA = ("toy", "d0")
PROBE: dict[str, Any] = {
    "backbone": "big",
    "ids": {"titles": 20, "gain": 0.25, "standard_error": 0.05},
    "neighbours": None,
}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    store = Store(tmp_path)
    write_document(memory_file(tmp_path, DATA, PROBE["backbone"]), PROBE)
    for model, backbone in {
        "shown": {"name": "big", "weights": "pretrained"},
        "anew": {"name": "big", "weights": "random"},
        "other": {"name": "small", "weights": "pretrained"},
    }.items():
        put(store, model=model, settings={"seed": 1, model: {"backbone": backbone}}, details={"configuration": model})
    put(store, model="sasrec")
    return with_memory(boards(store.query(None))[0], tmp_path)


def test_columns_of_rows_with_and_without_a_probe(board: Board) -> None:
    output = {row.model: row_texts(row, "ndcg@10", ("memory",)) for row in board.rows}
    messages = {model: (texts["memory: ids"], texts["memory: neighbours"]) for model, texts in output.items()}
    assert messages["shown"] == ("+0.2500 ± 0.0500", "")
    assert messages["anew"] == ("random weights",) * 2 and messages["other"] == ("not measured",) * 2
    assert messages["sasrec"] == ("", "")
    assert "nats a token" in render([board], "markdown", "ndcg@10", ("memory",))


def test_plain_formats_hold_the_figures(board: Board) -> None:
    rows = {row["model"]: row for row in csv.DictReader(render([board], "csv", "ndcg@10").splitlines())}
    assert (rows["shown"]["memory.ids"], rows["shown"]["memory.ids_se"]) == ("0.25", "0.05")
    assert rows["other"]["memory.ids"] == rows["sasrec"]["memory.ids"] == ""
    (document,) = json.loads(render([board], "json", "ndcg@10"))
    by_model = {row["model"]: row for row in document["rows"]}
    assert by_model["shown"]["memory"]["ids"]["gain"] == 0.25 and "memory" not in by_model["sasrec"]


def test_a_probe_is_of_one_content_and_one_model(tmp_path: Path) -> None:
    path = memory_file(tmp_path, DATA, "big")
    write_document(path, PROBE)
    assert read_document(path, "ids") is not None
    assert read_document(memory_file(tmp_path, ("toy", "d1"), "big"), "ids") is None
    assert read_document(memory_file(tmp_path, DATA, "a/hub-name"), "ids") is None
    path.write_text("{")
    assert read_document(path, "ids") is None
