"""Rows, names, metrics and K of a board, chosen freely: against a count by hand from the stored lists."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.data.loading import load_dataset
from harness.errors import InputError
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import Protocol
from harness.protocol.split import split
from harness.reports.selecting import selection
from harness.runs import recommending
from harness.store.run_store import Store
from tests import toys
from tests.cli.conftest import Harness, harness, toy  # noqa: F401  # fixtures
from tests.folders import csv_folder


def places(folder: Path, data: str) -> list[float]:
    """The rank of each test user's answer in a stored run; infinity where it is not listed."""
    lists = pd.read_parquet(folder / "predictions.parquet")
    dataset = load_dataset(data)
    built = split(dataset, Protocol())
    result = []
    for user, item in zip(built.test.targets.cases, built.test.targets.items, strict=True):
        actual = lists[(lists["user"] == dataset.users[user]) & (lists["item"] == dataset.items[item])]
        result.append(float(actual["rank"].iloc[0]) if len(actual) else math.inf)
    return result


def test_any_metric_at_any_depth(harness: Harness, toy: str) -> None:  # noqa: F811
    for model in ("mostpop", "markov"):
        harness("run", model, "-d", toy)
    options = ("--metrics", "hit,mrr,map,ndcg@3,hit@10", "--k", "7,20", "--format", "json")
    (board,) = json.loads(harness("leaderboard", "-d", toy, *options).out)
    assert [row["model"] for row in board["rows"]] == ["markov", "mostpop"]
    runs = {run.record.model: run for run in Store(Path("results")).query()}
    for row in board["rows"]:
        ranks = places(runs[row["model"]].folder.path, toy)
        assert len(set(ranks)) > 1 or row["model"] == "markov"
        for k in (7, 20):
            hits = [rank <= k for rank in ranks]
            assert row[f"hit@{k}"] == pytest.approx(sum(hits) / len(hits))
            expected = sum(1 / rank for rank in ranks if rank <= k) / len(ranks)
            assert row[f"mrr@{k}"] == row[f"map@{k}"] == pytest.approx(expected)
        assert row["ndcg@3"] == pytest.approx(sum(1 / math.log2(1 + r) for r in ranks if r <= 3) / len(ranks))
        assert row["hit@10"] == row["recall@10"]
    table = harness("leaderboard", "-d", toy, "--k", "3", "--metrics", "hit", "--format", "markdown").out
    assert "hit@3" in table and "recall@5" not in table and "by hit@3" in table


def test_rows_and_names(harness: Harness, toy: str) -> None:  # noqa: F811
    for model in ("mostpop", "markov", "itemknn"):
        harness("run", model, "-d", toy, "--seed", "1", "--seed", "2")
    ids = {(run.record.model, run.record.seed): run.record.run_id for run in Store(Path("results")).query()}
    one = ids["itemknn", 2]
    options = ("--models", "itemknn,mostpop", "--label", "mostpop=Popularity", "--label", f"{one}=Item kNN")
    (board,) = json.loads(harness("leaderboard", *options, "--format", "json").out)
    assert [(row["model"], row["rank"], row["n"]) for row in board["rows"]] == [
        ("Item kNN", 1, 2),
        ("Popularity", 2, 2),
    ]
    (board,) = json.loads(harness("leaderboard", "--runs", one, "--format", "json").out)
    assert [row["run_ids"] for row in board["rows"]] == [[one]] and board["rows"][0]["n"] == 1
    for bad, message in (
        (["--models", "markow"], "--models: unknown model 'markow'; did you mean markov?"),
        (["--runs", "seed9"], "--runs: unknown run 'seed9'"),
        (["--label", "markow=M"], "--label: unknown row 'markow'; did you mean markov?"),
    ):
        done = harness("leaderboard", *bad)
        assert done.code == 2 and message in done.err, done.err


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ({"labels": ["mine"]}, "not of the form ROW=NAME"),
        ({"metrics": "auc@3"}, "unknown metric 'auc@3'"),
        ({"metrics": "ndcg"}, "'ndcg' says no K; write ndcg@10, or add --k 5,10"),
        ({"metrics": "ndcg@101"}, "'101' is no K; give a whole number from 1 to 100"),
        ({"ks": "0"}, "--k: '0' is no K"),
    ],
)
def test_what_is_refused(message: dict, wrong: str) -> None:
    options = {"models": None, "runs": None, "labels": (), "metrics": None, "ks": None} | message
    with pytest.raises(InputError, match=wrong.replace("(", "\\(")):
        selection(**options)


def test_k_alone_is_recall_and_ndcg() -> None:
    papers = selection(None, None, (), "HR@10,NDCG@5,Recall@3,MRR@5", None).metrics
    assert papers == ("hit@10", "ndcg@5", "recall@3", "mrr@5")
    assert selection(None, None, (), None, "3,5").metrics == ("recall@3", "recall@5", "ndcg@3", "ndcg@5")


def test_lists_of_another_depth(harness: Harness, tmp_path: Path) -> None:  # noqa: F811
    """`protocol.depth` stores longer lists under another run id and the same split; for a K beyond the stored lists
    the stored model ranks again, with the same figures."""
    data = str(csv_folder(tmp_path / "data", toys.cycle(users=12, items=40, length=10)))
    for sets in ((), ("--set", "protocol.depth=35")):
        assert harness("run", "mostpop", "-d", data, *sets).code == 0
    runs = {run.record.protocol.depth: run for run in Store(Path("results")).query()}
    plain, deep = runs[20].record, runs[35].record
    assert plain.run_id != deep.run_id and plain.protocol.fingerprint == deep.protocol.fingerprint
    assert plain.metrics == deep.metrics and deep.integrity.short == 0
    assert [pd.read_parquet(runs[depth].folder.predictions)["rank"].max() for depth in (20, 35)] == [20, 35]
    (board,) = json.loads(harness("leaderboard", "-d", data, "--format", "json").out)
    assert [(row["n"], row["run_ids"]) for row in board["rows"]] == [(1, [deep.run_id])], "one seed is one seed"
    assert deep.run_id in harness("recommend", "mostpop", "--user", "u0").err
    options = ("--metrics", "recall@20,recall@35", "--format", "json")
    (board,) = json.loads(harness("leaderboard", "-d", data, "--runs", deep.run_id, *options).out)
    (row,) = board["rows"]
    result = np.array(places(runs[35].folder.path, data))
    assert row["recall@35"] == pytest.approx((result <= 35).mean()) and row["recall@35"] > row["recall@20"]
    repeated = harness("leaderboard", "-d", data, "--runs", plain.run_id, *options)
    assert f"{plain.run_id} stores 20 items of a list: its model ranks 35 now" in repeated.err
    (board,) = json.loads(repeated.out)
    for name in ("recall@20", "recall@35"):
        assert board["rows"][0][name] == row[name]
    shutil.rmtree(runs[20].folder.model)
    refused = harness("leaderboard", "-d", data, "--runs", plain.run_id, *options)
    assert refused.code == 2 and "this run has no stored model" in refused.err


def test_lists_that_a_model_ranks_otherwise_are_refused(
    harness: Harness,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a wider beam search finds other items: the longer lists do not begin with the stored ones."""
    data = str(csv_folder(tmp_path / "data", toys.cycle(users=12, items=40, length=10)))
    harness("run", "mostpop", "-d", data)
    rank = recommending.ranked

    def reversed_lists(*arguments: Any) -> Predictions:
        lists = rank(*arguments)
        return Predictions(lists.cases, lists.items[:, ::-1], lists.scores)

    monkeypatch.setattr(recommending, "ranked", reversed_lists)
    done = harness("leaderboard", "-d", data, "--metric", "recall@30")
    assert done.code == 2 and "lists of 30 items do not begin with the stored ones" in done.err
    assert "--set protocol.depth=30" in done.err


def test_a_catalogue_smaller_than_k(harness: Harness, tmp_path: Path) -> None:  # noqa: F811
    """Every item is listed, so every answer is found; a ranking made elsewhere has no model to list more."""
    data = str(csv_folder(tmp_path / "data", toys.cycle(users=12, items=25, length=10)))
    harness("run", "mostpop", "-d", data)
    (board,) = json.loads(harness("leaderboard", "-d", data, "--metric", "recall@50", "--format", "json").out)
    assert board["rows"][0]["recall@50"] == 1.0
    (run,) = Store(Path("results")).query()
    done = harness("evaluate", str(run.folder.predictions), "-d", data, "--name", "mine")
    assert done.code == 0, done.err
    refused = harness("leaderboard", "-d", data, "--models", "mine", "--metric", "recall@50")
    assert refused.code == 2 and "the run has external rankings" in refused.err
