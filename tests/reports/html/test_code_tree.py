"""Ablation bars and the code tree of the report: from state files and kept codes, good and bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.dataset import ItemText
from harness.reports.html import ablations, code_tree
from harness.reports.html.document import COLOURS
from harness.reports.leaderboard import Row
from harness.reports.per_user import measured
from harness.store.run_store import Store
from tests import toys
from tests.reports import shop
from tests.reports.conftest import Make
from tests.reports.shop import board
from tests.store.made import put


@pytest.fixture
def grid(store: Store, make_run: Make) -> Store:
    make_run("alpha", 1)
    make_run("alpha", 2, 9)
    shop.put_grid(store, "grid-0", {"base": "seed1-alpha", "worse": "seed2-alpha", "undone": None})
    return store


def _drawn(store: Store) -> tuple[list[Any], list[str]]:
    (run, *_) = store.query()
    base = measured(store.query())
    result, skipped = ablations.grids(store, run.record.dataset.name, run.record.protocol.fingerprint)
    built, notes = ablations.grid_figures(result, ("ndcg@10", "recall@10"), base)
    return built, skipped + notes


def test_ablation_bars(grid: Store) -> None:
    (figure,), notes = _drawn(grid)
    assert notes == [] and [view.label for view in figure.views] == ["ndcg@10", "recall@10"]
    (bars,) = figure.views[0].plot.to_plotly_json()["data"]
    records = {run.record.run_id: run.record.metrics.test["ndcg@10"] for run in grid.query()}
    assert list(bars["x"]) == pytest.approx([records["seed2-alpha"] - records["seed1-alpha"]])
    assert bars["error_x"]["array"][0] > 0 and bars["marker"]["color"][0] == COLOURS[1]  # lower, and significant
    assert "Significantly lower: worse" in figure.views[0].said
    assert [line.texts[0] for line in figure.views[0].sheet.lines] == ["base", "worse", "undone"]


def test_ablations_that_cannot_be_used(grid: Store) -> None:
    shop.put_grid(grid, "grid-1", {"base": "seed1-alpha", "undone": None})
    shop.put_grid(grid, "grid-2", {"base": None, "worse": None})
    shop.put_grid(grid, "grid-3", {"base": "gone", "worse": "seed2-alpha"})
    (folder,) = (grid.root / "ablations" / "alpha").iterdir()
    (folder / "broken.json").write_text("{")
    other = json.loads((folder / "grid-0.json").read_text()) | {"split": "another"}
    (folder / "other.json").write_text(json.dumps(other))
    (folder / "newer.json").write_text(json.dumps(other | {"schema": 9}))
    result, notes = _drawn(grid)
    assert len(result) == 1
    message = "\n".join(notes)
    assert "broken.json" in message and "schema 9" in message and "other.json" not in message
    assert "grid-1.json) has no complete row beside its base" in message
    assert "grid-2.json) is not drawn: no run of this grid" in message and "grid-3.json" in message


def _row(tmp_path: Path, codes: Any) -> Row:
    store = Store(tmp_path)
    put(store)
    (run,) = store.query()
    (run.folder.path / "item.index.json").write_text(json.dumps(codes))
    return board(store).rows[0]


def test_a_big_tree_stays_small(tmp_path: Path) -> None:
    items = 10_000
    text = tuple(ItemText(title=f"a long title of an item, with its number {n} " * 5) for n in range(items))
    data = toys.dataset([np.arange(items)], items, text)
    row = _row(tmp_path, {f"i{n}": [f"<a_{n % 256}>", f"<b_{n // 256}>", "<c_0>"] for n in range(items)})
    (figure,), notes = code_tree.figures([row], data, np.arange(items))
    assert notes == []
    plot = figure.views[0].plot
    assert len(str(plot.to_json())) < 150_000
    (trace,) = plot.to_plotly_json()["data"]
    assert trace["values"][0] == sum(
        value for value, parent in zip(trace["values"], trace["parents"], strict=True) if parent == code_tree.ROOT
    )
    assert sum(parent == code_tree.ROOT for parent in trace["parents"]) == code_tree.FIRST
    assert "10,000 items under 256 first tokens" in figure.views[0].said
    below = [n for n, parent in enumerate(trace["parents"]) if parent == f"{code_tree.ROOT}/<a_0>"]
    assert len(below) == code_tree.SECOND + 1 and trace["labels"][below[-1]] == "other tokens"
    assert sum(trace["values"][n] for n in below) == 40


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ({"i0": ["<a_0>"]}, "not the items of the data set"),
        ({"i0": ["<a_0>"], "i1": []}, "is no list of tokens"),
        ({"i0": ["<a_0>"], "i1": ["<a_0>", "<b_1>"]}, "codes of unequal length"),
        ([1], "JSON"),
    ],
)
def test_codes_that_cannot_be_shown(tmp_path: Path, codes: Any, message: str) -> None:
    data = toys.dataset([np.arange(2)], 2, None)
    figures, notes = code_tree.figures([_row(tmp_path, codes)], data, np.ones(2, dtype=np.int64))
    assert figures == [] and message in notes[0] and notes[0].startswith("The codes of a are not shown")
