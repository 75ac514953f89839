"""Lists of candidates that hold the answer are alarmed about; honest rankings of any quality are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import Dataset
from harness.evaluation.candidates import look_for_candidates
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.split import Split
from harness.reports.leaderboard import boards
from harness.reports.tables import FORMATS
from harness.reports.values import LEAK
from harness.runs.external import evaluate
from harness.runs.job import RunOptions, plan
from harness.store.run_store import Store
from tests import toys
from tests.folders import csv_folder
from tests.reports.conftest import render

TAIL = "as candidates do that were drawn with the target among them"


def clusters(count: int = 10, size: int = 15, users: int = 300) -> Dataset:
    """Everybody buys within a cluster, in any order: a list of the whole cluster always holds the answer."""
    draw = np.random.default_rng(3)
    of = draw.integers(0, count, users)
    return toys.dataset([c * size + draw.choice(size, 8, replace=False) for c in of], count * size, None)


def chains(items: int = 150, users: int = 800, ways: int = 3) -> Dataset:
    """Each item is followed by one of a few others."""
    draw = np.random.default_rng(4)
    rows = []
    for _ in range(users):
        row = [int(draw.integers(items))]
        while len(row) < 8:
            step = (row[-1] * 7 + 1 + int(draw.integers(ways))) % items
            row.append(step if step not in row else next(x for x in range(items) if x not in row))
        rows.append(np.array(row))
    return toys.dataset(rows, items, None)


DATA = {"noise": toys.noise(400, 200), "clusters": clusters(), "chains": chains(), "circle": toys.cycle(600, 240)}
SPLITS = {name: toys.split(data) for name, data in DATA.items()}
TINY = {"small circle": toys.split(), "small clusters": toys.split(clusters(5, 12, 40))}


def candidates(split: Split, length: int, skill: float, draw: str, seed: int = 0) -> Predictions:
    """The answer among others, ranked again: normal scores, the answer's higher by `skill`."""
    rng = np.random.default_rng(seed)
    counts = split.train.counts() + 1.0
    best = np.argsort(-counts, kind="stable")
    lists = []
    for answer in split.test.targets.items.tolist():
        weights = counts / counts.sum() if draw == "popular" else None
        pool = best if draw == "top" else rng.choice(len(counts), 2 * length, replace=False, p=weights)
        chosen = np.array([answer, *[item for item in pool.tolist() if item != answer][: length - 1]])
        scores = rng.normal(size=length)
        scores[0] += skill
        lists.append(chosen[np.argsort(-scores)])
    users = split.test.targets.cases
    return Predictions(users, np.array(lists), np.tile(-np.arange(float(length)), (len(users), 1)))


def looked(split: Split, lists: Predictions) -> str:
    return look_for_candidates(lists, split.test.requests, split.test.targets, split.train.n_items).alarm


@pytest.mark.parametrize("length", [10, 20])
@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize(("draw", "skill"), [("uniform", 0), ("uniform", 6), ("popular", 2), ("top", 0)])
def test_candidates_are_alarmed_about(name: str, draw: str, skill: float, length: int) -> None:
    split = SPLITS[name]
    alarm = looked(split, candidates(split, length, skill, draw))
    users = len(split.test.targets.cases)
    assert alarm.startswith(f"{users:,} of {users:,} lists hold the target of their user") and TAIL in alarm


@pytest.mark.parametrize("model", ["mostpop", "markov", "itemknn"])
@pytest.mark.parametrize("name", [*SPLITS, *TINY])
def test_honest_rankings_are_not(name: str, model: str, tmp_path: Path) -> None:
    split = {**SPLITS, **TINY}[name]
    recommender = plan(model, RunOptions(dataset="ml-100k"))[0].recommender()
    context = toys.context(tmp_path)
    recommender.fit(split.train, context)
    for depth in (5, 10, 20, 60):
        assert looked(split, recommender.recommend(split.test.requests, depth, context)) == "", depth


def test_an_oracle_with_the_same_rest_for_all_is_not() -> None:
    """Perfect at the top and popular items below, as a model of a planted pattern is."""
    split = SPLITS["circle"]
    answers = split.test.targets.items
    rest = np.array([[item for item in range(21) if item != answer][:19] for answer in answers.tolist()])
    items = np.concatenate([answers[:, None], rest], axis=1)
    assert looked(split, Predictions(split.test.targets.cases, items, np.tile(-np.arange(20.0), (600, 1)))) == ""


def test_what_proves_nothing() -> None:
    split = SPLITS["noise"]
    lists = candidates(split, 20, 0, "uniform")
    few = Predictions(lists.cases, np.where(np.arange(400)[:, None] < 19, lists.items, NO_ITEM), lists.scores)
    assert looked(split, few) == ""  # 19 lists
    assert looked(split, candidates(split, 190, 0, "top")) == ""  # nearly the whole catalogue
    missing = lists.items.copy()
    missing[:8][missing[:8] == split.test.targets.items[:8, None]] = NO_ITEM
    order = np.argsort(missing == NO_ITEM, axis=1, kind="stable")
    closed = np.take_along_axis(missing, order, axis=1)
    result = look_for_candidates(
        Predictions(lists.cases, closed, lists.scores), split.test.requests, split.test.targets, 200
    )
    assert (result.lists, result.held, result.alarm) == (400, 392, "")  # 98% are not nearly all


def test_the_alarm_is_heard_stored_and_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    data = toys.cycle(200, 100)
    folder, store = csv_folder(tmp_path / "toy", data), Store(tmp_path / "results")
    split = toys.split(data)
    lists = candidates(split, 30, 1, "uniform")  # longer than what is measured
    lines = ["user,item,rank"]
    for user, row in zip(lists.cases.tolist(), lists.items.tolist(), strict=True):
        lines += [f"u{user},i{item},{place}" for place, item in enumerate(row, start=1)]
    (tmp_path / "again.csv").write_text("\n".join(lines))
    events: list[str] = []
    path, options = tmp_path / "again.csv", RunOptions(str(folder))
    record, repeated = (evaluate(path, options, store, events.append) for _ in range(2))
    alarms = [line for line in events if line.startswith("alarm: suspected: 200 of 200 lists hold the target")]
    assert repeated.reused and len(alarms) == 2  # a stored run is warned about as well
    record = record.record
    (sentence,) = record.leaks
    assert sentence.startswith("suspected: ") and record.details["candidates"]["alarm"] in sentence
    for form in FORMATS:
        text = render(boards(store.query()), form, "ndcg@10")
        assert "suspected: 200 of 200 lists" in " ".join(text.replace(r"\allowbreak{}", "").split())
        assert form not in ("table", "markdown") or f"again {LEAK}" in text
        assert "this configuration sees" not in text
