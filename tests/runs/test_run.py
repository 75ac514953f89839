"""The flow of a run: reuse, resumption, fresh runs, what is stored, and what a failure leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.errors import InputError
from harness.evaluation.metrics import compute_metrics
from harness.protocol.protocol import METRICS, Protocol
from harness.protocol.split import split as split_by
from harness.runs.job import RunOptions, plan
from harness.runs.run import Finished, execute
from harness.store.event_log import read_events
from harness.store.record import Record, read_predictions
from harness.store.run_store import Store
from tests.fakes import Fake


def go(toy: str, store: Store, model: str = "fake", *, fresh: bool = False, **options: object) -> Finished:
    (job,) = plan(model, RunOptions(dataset=toy, **options))  # pyright: ignore[reportArgumentType]
    return execute(job, store, fresh=fresh)


def test_a_run_is_stored_and_reused(toy: str, store: Store) -> None:
    first = go(toy, store)
    assert not first.reused and first.record.metrics.test["recall@5"] == 1.0  # the next item of the circle is second
    names = {path.name for path in Path(first.path).iterdir()}
    assert names == {"result.json", "predictions.parquet", "config.yaml", "log.jsonl", "model"}
    repeated = go(toy, store)
    assert repeated.reused and repeated.record == first.record and len(Fake.resumed) == 1


def test_the_record_is_the_contract(toy: str, store: Store) -> None:
    done = go(toy, store, seeds=(4,))
    document = json.loads((Path(done.path) / "result.json").read_text())
    assert Record.model_validate(document) == done.record
    assert list(document) == [
        "schema", "run_id", "status", "model", "family", "dataset", "protocol", "seed", "profile", "metrics", "cost",
        "integrity", "env", "started", "finished", "comprehension", "codes", "leaks", "audit", "effort", "settings",
        "command", "details", "seal",
    ]  # fmt: skip
    assert (document["schema"], document["seed"], document["status"]) == (2, 4, "complete")
    assert document["run_id"].startswith("seed4-") and Path(done.path).name == document["run_id"]
    assert list(document["metrics"]["test"]) == list(document["metrics"]["valid"]) == list(METRICS)
    assert document["dataset"]["users"] == 60 and document["integrity"]["users_scored"] == 60
    assert document["details"]["model"] == {"width": 4, "nothing": None}
    assert document["cost"]["peak_memory_mb"] > 10 and document["cost"]["train_seconds"] > 0


def test_predictions_give_the_metrics_again(toy: str, store: Store) -> None:
    from harness.data.loading import load_dataset

    done, data = go(toy, store), load_dataset(toy)
    stored = read_predictions(Path(done.path) / "predictions.parquet", data.users, data.items)
    assert compute_metrics(stored, split_by(data, Protocol()).test.targets) == done.record.metrics.test


def test_the_log_tells_stages(toy: str, store: Store) -> None:
    events = read_events(Path(go(toy, store).path) / "log.jsonl")
    assert [event["event"] for event in events] == ["session", "train", "stage", "stage end", "trained", "measured"]
    ended = events[3]
    assert (ended["stage"], ended["step"], ended["loss"]) == ("train", 2, 1.0) and ended["seconds"] > 0


def test_what_decides_the_outcome_decides_the_id(toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [
        go(toy, store).record.run_id,
        go(toy, store, seeds=(2,)).record.run_id,
        go(toy, store, sets=("fake.rate=0.2",)).record.run_id,
        go(toy, store, sets=("protocol.max_history=3",)).record.run_id,
        go(toy, store, "markov").record.run_id,
    ]
    monkeypatch.setattr(Fake, "code_version", 2)
    ids.append(go(toy, store).record.run_id)
    assert len(set(ids)) == len(ids)


def test_the_stored_configuration_repeats_the_run(toy: str, store: Store) -> None:
    first = go(toy, store, profile="smoke", seeds=(3,), sets=("fake.levels=[5]", "protocol.max_history=4"))
    config = Path(first.path) / "config.yaml"
    assert list(yaml.safe_load(config.read_text())) == [
        *("model", "dataset", "order", "profile", "seed", "protocol", "fake")
    ]
    (job,) = plan("fake", RunOptions(config=config))
    repeated = execute(job, store)
    assert repeated.reused and repeated.record.run_id == first.record.run_id


def test_an_interrupted_run_is_continued(toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "failure", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        go(toy, store)
    (config,) = store.runs.glob("fake/toy/*/config.yaml")
    assert not (config.parent / "result.json").exists() and store.query() == []
    monkeypatch.setattr(Fake, "failure", None)
    done = go(toy, store)
    assert not done.reused and Fake.resumed == [False, True]
    assert done.record.details["sessions"] == 2 and Path(done.path) == config.parent
    assert "stopped" in [event["event"] for event in read_events(config.parent / "log.jsonl")]


def test_fresh_begins_anew(toy: str, store: Store) -> None:
    old = go(toy, store)
    new = go(toy, store, fresh=True)
    assert not new.reused and Fake.resumed == [False, False] and new.path == old.path
    assert new.record.metrics == old.record.metrics and new.record.finished > old.record.finished
    assert [run.record for run in store.query()] == [new.record]
    assert not [path for path in Path(new.path).parent.iterdir() if path.name.endswith((".old", ".fresh"))]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("no"), InputError("no")])
def test_a_failed_fresh_run_loses_nothing(
    toy: str, store: Store, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    old = go(toy, store)
    monkeypatch.setattr(Fake, "failure", failure)
    with pytest.raises(type(failure)):
        go(toy, store, fresh=True)
    assert [run.record for run in store.query()] == [old.record]
    assert go(toy, store).reused


def test_an_unwritable_results_folder_is_wrong_input(toy: str, tmp_path: Path, store: Store) -> None:
    broken = tmp_path / "results"
    broken.write_text("a file, where the results folder should be")
    with pytest.raises(InputError, match="cannot write"):
        go(toy, store)
    assert broken.read_text().startswith("a file")


def test_exclude_history_holds_for_every_model(toy: str, store: Store) -> None:
    plain = go(toy, store)
    without = go(toy, store, sets=("protocol.exclude_history=true",))
    assert Fake.asked == [10, 20, 20, 10, 40, 40]  # validation in `fit`, then valid and test
    assert plain.record.integrity.seen > 0 and without.record.integrity.seen == 0
    assert without.record.metrics.test["recall@1"] == 1.0 > plain.record.metrics.test["recall@1"]
    assert without.record.protocol.exclude_history and without.record.protocol != plain.record.protocol


def test_a_model_may_validate_on_some_users(toy: str, store: Store) -> None:
    go(toy, store)
    assert set(Fake.validated) == set(METRICS) and Fake.validated["recall@5"] == 1.0


def test_run_from_python(toy: str, tmp_path: Path) -> None:
    import harness

    results = tmp_path / "results"
    done = harness.run("fake", toy, seed=2, set={"fake.rate": 1e-3}, results=results)
    assert done.metrics == done.record.metrics.test
    assert isinstance(done, Finished) and done.document()["path"] == done.path and done.record.seed == 2
    both = harness.run("fake", toy, seed=[2, 3], set=["fake.rate=1e-3"], results=results)
    assert isinstance(both, list) and [finished.reused for finished in both] == [True, False]
    with pytest.raises(InputError, match="did you mean seed"):
        harness.run("fake", toy, seeds=[1])
    table = harness.leaderboard(results=results)
    assert table["n"].tolist() == [2] and table["recall@5"].tolist() == [1.0]


@pytest.mark.parametrize(
    "options",
    [
        {"seed": np.int64(2), "set": {"fake": {"rate": 1e-3, "layer": {"width": 9}}}},
        {"seed": 2, "set": {"fake.rate": np.float64(1e-3), "fake.layer.width": np.int64(9)}},
        {"seed": [2], "set": ("fake.rate=1e-3", "fake.layer.width=9")},
        {"seed": np.array([2]), "set": "fake.layer.width=9", "config": "rate.yaml"},
    ],
)
def test_options_as_python_users_write_them(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    import harness

    monkeypatch.chdir(tmp_path)
    Path("rate.yaml").write_text("fake: {rate: 1e-3}")
    done = harness.run("fake", Path(toy), **options)
    one = done[0] if isinstance(done, list) else done
    assert isinstance(done, list) == (np.ndim(options["seed"]) > 0) and one.record.run_id.startswith("seed2-")
    stored = yaml.safe_load(Path(one.path, "config.yaml").read_text())["fake"]
    assert stored["rate"] == 1e-3 and stored["layer"] == {"width": 9}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": True}, "True is not a seed"),
        ({"seed": "1"}, "'1' is not a seed"),
        ({"seed": [1.5]}, "1.5 is not a seed"),
        ({"set": "fake.rate"}, "'fake.rate' is not of the form section.key=value"),
        ({"dataset": 7}, "int is neither a name nor a folder"),
    ],
)
def test_wrong_options_in_python(toy: str, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    import harness

    with pytest.raises(InputError, match=message):
        harness.run("fake", **{"dataset": toy, "results": tmp_path, **options})


def test_wrong_input_met_in_training_leaves_no_litter(toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Fake, *_: object) -> None:
        raise InputError("no text")

    monkeypatch.setattr(Fake, "_fit", refuse)
    with pytest.raises(InputError, match="no text"):
        go(toy, store)
    assert not list(store.runs.glob("fake/toy/seed*"))


def test_codes_are_scored_beside_items(toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert go(toy, store).record.codes is None
    monkeypatch.setattr(Fake, "code_groups", lambda self: np.arange(self.n) // 2)
    result = go(toy, store, seeds=(2,)).record.codes
    assert result is not None and result["collision_rate"] == 1.0
    assert result["code_level"]["recall@5"] == 1.0 and result["code_level_delta"]["recall@1"] > 0
    items = go(toy, store, seeds=(2,)).record.metrics.test
    assert result["code_level"]["ndcg@10"] - items["ndcg@10"] == pytest.approx(result["code_level_delta"]["ndcg@10"])


def test_the_largest_seed_is_kept_to_the_digit(toy: str, store: Store) -> None:
    assert go(toy, store, seeds=(2**63 - 1,)).record.seed == 2**63 - 1
    assert go(toy, store, seeds=(2**63 - 1,)).reused
