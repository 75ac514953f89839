"""What tables say of the search behind each row, and when they mark a comparison as unequal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import harness
from harness.reports.leaderboard import boards
from harness.reports.tables import FORMATS
from harness.store.run_store import Store
from tests.reports.conftest import render
from tests.store.made import put

NOTE = "unequal effort: tuned had 20 trials (612 s), plain 1, old none on record"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    put(store, model="tuned", value=0.3, effort={"trials": 20, "seconds": 612.4, "study": "seed1-x"})
    put(store, model="tuned", value=0.2, effort={"trials": 1}, run_id="seed1-t0", details={"configuration": "t0"})
    put(store, model="plain", value=0.4, effort={"trials": 1})
    put(store, model="fixed", value=0.1, effort={"trials": 0})
    put(store, model="old", value=0.1)
    return store


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "csv"])
def test_each_format_marks_who_had_less(store: Store, form: str) -> None:
    text = render(boards(store.query()), form, "ndcg@10")
    assert NOTE in text
    if form != "json":
        marked = [name for name in ("tuned", "plain", "fixed", "old") if f"{name} §" in text]
        assert marked == ["plain", "old"]
    else:
        assert [row["trials"] for row in json.loads(text)[0]["rows"]] == [1, 20, 1, 0, None]


def test_columns_of_effort(store: Store) -> None:
    text = render(boards(store.query()), "markdown", "ndcg@10", ("effort",))
    lines = {line.split(" | ")[1]: line for line in text.splitlines() if line.startswith("| ")}
    assert ("| trials | search s |" in text and "| 20 | 612 |" in lines["tuned"]) or "| 1 |  |" in lines["tuned"]
    rows = list(csv.DictReader(io.StringIO(render(boards(store.query()), "csv", "ndcg@10"))))
    assert {(row["model"], row["trials"], row["search_s"]) for row in rows} == {
        ("tuned", "20", "612.4"), ("tuned", "1", ""), ("plain", "1", ""), ("fixed", "0", ""), ("old", "", ""),
    }  # fmt: skip
    assert harness.leaderboard(results=store.root)["trials"].tolist()[1] == 20


def test_passes_over_the_data_are_a_column(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for seed, passes in ((1, 4.0), (2, 5.0)):
        put(
            store,
            model="network",
            seed=seed,
            run_id=f"seed{seed}-n",
            details={"model": {"training": {"passes": passes}}, "configuration": "n"},
        )
    stages = {"alignment": {"passes": 3.0}, "annealing": {"passes": 0.25}, "off": None}
    put(store, model="staged", details={"model": {"stages": stages}})
    put(store, model="silent", details={"model": {}})
    board = harness.leaderboard(results=store.root).set_index("model")
    assert board.loc["network", "passes"] == 4.5 and board.loc["staged", "passes"] == 3.25
    assert "passes" in (text := render(boards(store.query()), "markdown", "ndcg@10", ("effort",))) and "| 4.5 |" in text


def test_equal_effort_says_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    put(store, model="a", effort={"trials": 5, "seconds": 3.0})
    put(store, model="b", effort={"trials": 5, "seconds": 9.0})
    put(store, model="fixed", effort={"trials": 0})
    text = render(boards(store.query()), "markdown", "ndcg@10")
    assert "unequal" not in text and "§" not in text
    old = Store(tmp_path / "old")
    put(old, model="a", effort={"trials": 1})
    put(old, model="b")
    assert "unequal" not in render(boards(old.query()), "markdown", "ndcg@10")
