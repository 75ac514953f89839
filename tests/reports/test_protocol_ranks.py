"""The same configurations under several protocols: ranks side by side, and how the order changes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.reports.protocol_ranks import ProtocolComparison, crossings, report, sheet
from harness.store.run_store import Store
from tests.store.made import put

GLOBAL = {"name": "global-time/1", "fingerprint": "p1", "cut": (0.8, 0.9)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """`a` and `b` change places under global time, `c` stays last, `d` was measured under leave-one-out alone."""
    store = Store(tmp_path / "results")
    for model, loo, later in (("a", 0.5, 0.2), ("b", 0.4, 0.3), ("c", 0.1, 0.1)):
        for seed in (1, 2):
            put(store, model=model, seed=seed, value=loo)
            put(store, model=model, seed=seed, value=later, protocol=GLOBAL, run_id=f"seed{seed}-{model}-g")
    put(store, model="d", value=0.45)
    return store


def one(store: Store) -> ProtocolComparison:
    (crossing,) = crossings(store.query(), "ndcg@10")
    return crossing


def test_ranks_are_among_what_was_measured_under_every_protocol(store: Store) -> None:
    crossing = one(store)
    assert crossing.labels == ("leave-one-out/1", "global-time/1")
    messages = {standing.model: (standing.ranks, standing.moved) for standing in crossing.standings}
    assert messages == {"a": ((1, 2), (-1,)), "b": ((2, 1), (1,)), "c": ((3, 3), (0,)), "d": ((None, None), (None,))}
    assert [standing.model for standing in crossing.standings] == ["a", "b", "c", "d"]
    assert crossing.tau == (pytest.approx(1 / 3),)


def test_nothing_to_compare(store: Store, tmp_path: Path) -> None:
    alone = Store(tmp_path / "alone")
    put(alone, model="a")
    assert crossings(alone.query(), "ndcg@10") == []
    put(alone, model="b", protocol=GLOBAL)
    crossing = one(alone)
    assert crossing.tau == (None,) and "fewer than two configurations in common" in sheet(crossing).notes[0]
    put(alone, model="e", protocol=GLOBAL, dataset={"fingerprint": "d1"}, run_id="seed1-other")
    assert len(crossings(alone.query(), "ndcg@10")) == 1, "other data are not the same data under other rules"


def test_two_cuts_of_one_protocol_are_told_apart(store: Store) -> None:
    other = {**GLOBAL, "fingerprint": "p2", "cut": ("2018-01-01", "2018-06-01")}
    for model in ("a", "b"):
        put(store, model=model, value=0.2, protocol=other, run_id=f"seed1-{model}-g2")
    labels = one(store).labels
    assert labels[0] == "leave-one-out/1" and len(set(labels)) == 3
    assert "global-time/1 cut=('2018-01-01', '2018-06-01')" in labels


def test_every_format_says_the_same(store: Store) -> None:
    result = [one(store)]
    (document,) = json.loads(report(result).text("json"))
    assert [row["ranks"] for row in document["rows"]] == [[1, 2], [2, 1], [3, 3], [None, None]]
    assert document["rows"][0]["values"] == [0.5, 0.2] and document["protocols"][1]["cut"] == [0.8, 0.9]
    rows = list(csv.DictReader(io.StringIO(report(result).text("csv"))))
    assert [row["rank"] for row in rows if row["protocol"] == "global-time/1"] == ["2", "1", "3", ""]
    text = report(result).text("markdown")
    assert (
        "2 of 3 configurations change their place" in text
        and "0.33" in text
        and "| a | 1 | 0.5000 ± 0.0000 | 2 |" in text
    )
    with pytest.raises(InputError):
        report(result).text("pdf")
