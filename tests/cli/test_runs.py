"""`harness runs list` and `harness runs rm`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.locks import acquire_lock
from harness.store.run_store import Store, beside
from tests.cli.conftest import Harness
from tests.fakes import Fake


def listed(harness: Harness, *options: str) -> list[dict[str, Any]]:
    return json.loads(harness("runs", "list", "--json", *options).out)


def test_every_run_is_listed_and_can_be_taken_away(harness: Harness, toy: str, monkeypatch) -> None:
    harness("run", "markov", "-d", toy, "--seed", "1", "--seed", "2")
    monkeypatch.setattr(Fake, "failure", KeyboardInterrupt())
    assert harness("run", "fake", "-d", toy).code == 130
    rows = listed(harness)
    assert [(row["model"], row["seed"], row["status"]) for row in rows] == [
        ("fake", 1, "unfinished"),
        ("markov", 1, "complete"),
        ("markov", 2, "complete"),
    ]
    record = Store(Path("results")).query()[0].record
    assert rows[1]["ndcg@10"] == record.metrics.test["ndcg@10"] and rows[0]["ndcg@10"] is None
    files = [path for path in Path(rows[1]["path"]).rglob("*") if path.is_file()]
    assert rows[1]["bytes"] == sum(path.stat().st_size for path in files)
    assert "3 runs" in harness("runs", "list").err

    refused = harness("runs", "rm", "fake", "seed1")
    assert refused.code == 2 and "begins the ids of 2 runs" in refused.err
    refused = harness("runs", "rm", "markow", "--yes")
    assert refused.code == 2 and "did you mean markov?" in refused.err
    refused = harness("runs", "rm", "markov")  # the tests' stdin is no terminal
    assert refused.code == 2 and "add --yes" in refused.err and len(listed(harness)) == 3

    done = harness("runs", "rm", "fake", rows[1]["run_id"], "--yes")
    assert done.code == 0 and done.out.startswith("2 runs removed"), done.err
    assert [row["run_id"] for row in listed(harness)] == [rows[2]["run_id"]]
    assert not Path(rows[1]["path"]).exists() and not beside(Path(rows[1]["path"]), "fresh").exists()
    assert harness("run", "markov", "-d", toy, "--seed", "1").code == 0
    assert len(listed(harness, "-d", toy)) == 2


def test_a_run_that_is_being_made_is_refused(harness: Harness, toy: str) -> None:
    harness("run", "markov", "-d", toy)
    (run,) = Store(Path("results")).query()
    with acquire_lock(beside(run.folder.path, "lock")):
        assert [row["status"] for row in listed(harness)] == ["running"]
        done = harness("runs", "rm", "markov", "--yes")
        assert done.code == 2 and "is being executed by a process" in done.err
    assert run.folder.result.exists()


def test_an_unreadable_record_is_listed_too(harness: Harness, toy: str) -> None:
    harness("run", "markov", "-d", toy)
    (run,) = Store(Path("results")).query()
    run.folder.result.write_text("{")
    assert [row["status"] for row in listed(harness)] == ["unreadable"]
    assert harness("runs", "rm", "markov", "--yes").code == 0 and listed(harness) == []
