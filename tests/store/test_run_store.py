"""The run store: atomic records, claims by one process at a time, and queries that survive bad files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchmarks.victims import Death, Place, run
from harness.core.files import write_result_text
from harness.errors import HarnessError, InputError
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.store.record import Outcome, Record, RunKey, folder_name, read_predictions, to_jsonable, write_predictions
from harness.store.run_store import Store
from tests.store.made import document, put

KEY = RunKey("a", "toy", "seed1-a")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_result_text(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"file: cannot write: No space left on device; free some space"):
        write_result_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_at_the_end_leaves_an_unfinished_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: str, __: str) -> None:
        raise OSError(28, "No space left on device")

    with store.claim(KEY) as claim:
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(InputError, match="No space left"):
            claim.finish(Record.model_validate(document()))
    assert store.query() == [] and not claim.folder.result.exists()


def test_bad_records_are_skipped_by_name(store: Store) -> None:
    good = put(store, model="good")
    bad = {
        "torn": "{",
        "newer": json.dumps(document(schema=3)),
        "wrong": json.dumps(document(seed=1) | {"seed": "one"}),
        "list": "[]",
        "metric": json.dumps(document(metrics={"test": {"ndcg@10": 0.5}})),
    }
    for name, text in bad.items():
        folder = store.runs / name / "toy" / "x"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(text)
    (store.runs / "unfinished" / "toy" / "x").mkdir(parents=True)
    warnings: list[str] = []
    assert [run.record for run in store.query("toy", warnings.append)] == [good]
    assert len(warnings) == len(bad) and all(any(f"/{name}/" in line for line in warnings) for name in bad)
    assert any("schema 3 is newer" in line for line in warnings)
    assert store.query("other") == []


def test_a_torn_record_is_made_again_and_a_newer_one_kept(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.folder(KEY).result
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with store.claim(KEY) as claim:
        assert claim.stored is None and not path.exists()
        claim.finish(Record.model_validate(document()))
    assert "made again" in capsys.readouterr().err
    path.write_text(json.dumps(document(schema=3)))
    with pytest.raises(InputError, match="schema 3 is newer"), store.claim(KEY):
        pass
    assert json.loads(path.read_text())["schema"] == 3


def test_a_model_of_a_library_has_a_folder_without_a_colon(store: Store) -> None:
    assert store.folder(RunKey("recbole:STAMP", "toy", "x")).path == store.runs / "recbole@STAMP" / "toy" / "x"


def test_a_crash_while_a_fresh_run_replaces_the_old_is_mended(store: Store) -> None:
    old = put(store)
    final = store.folder(KEY).path
    os.rename(final, final.with_name(f".{final.name}.old"))  # the crash came between the two steps
    with store.claim(KEY) as claim:
        assert claim.stored is not None and claim.stored.record == old
    assert [run.record for run in store.query()] == [old]


def test_a_complete_run_in_a_read_only_folder_is_returned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = put(store)
    key = RunKey(record.model, record.dataset.name, record.run_id)

    def refused(*_: Any, **__: Any) -> Any:
        raise InputError("cannot write: Read-only file system")

    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # as for any user, root too, on such a disk
    monkeypatch.setattr("harness.store.run_store.acquire_lock", refused)
    with store.claim(key) as claim:
        assert claim.stored is not None and claim.stored.record.run_id == record.run_id
    for other, fresh in ((key, True), (RunKey(record.model, record.dataset.name, "seed1-none"), False)):
        with pytest.raises(InputError, match="Read-only"), store.claim(other, fresh=fresh):
            pass


def test_an_unfinished_fresh_run_is_no_run(store: Store) -> None:
    old = put(store)
    with store.claim(KEY, fresh=True) as claim:
        assert claim.folder != claim.final and claim.stored is None
        claim.folder.result.write_text(json.dumps(document(value=0.9)))
        assert [run.record for run in store.query()] == [old]


def test_records_refuse_what_is_not_theirs() -> None:
    changes: list[dict[str, Any]] = [
        {"extra": 1},
        {"metrics": {"test": {"hits": 1.0}}},
        {"status": "running"},
        {"started": "now"},
    ]
    for change in changes:
        with pytest.raises(ValidationError):
            Record.model_validate(document(**change))
    complete = document()
    assert Record.model_validate(complete).document() == complete | {
        "started": "2026-01-01T12:00:00Z",
        "finished": "2026-01-01T12:00:00Z",
        "comprehension": None,
        "codes": None,
        "seal": None,
        "effort": None,
        "leaks": [],
        "audit": {},
        "protocol": {**complete["protocol"], "cut": None, "depth": 20},
    }


def test_plain_makes_json_of_anything() -> None:
    value = {1: np.float32(0.5), "a": (np.int64(2), {3}), "b": float("inf"), "c": np.arange(2), "d": Path("x")}
    assert to_jsonable(value) == {"1": 0.5, "a": [2, [3]], "b": None, "c": [0, 1], "d": "x"}


def test_run_ids_say_the_seed_and_depend_on_all() -> None:
    base = {"model": "m", "configuration": {"a": 1}, "code_version": 1, "data": "d", "protocol": "p", "seed": 1}
    first = Outcome(**base).run_id  # pyright: ignore[reportArgumentType]
    assert first.startswith("seed1-") and first == Outcome(**base).run_id  # pyright: ignore[reportArgumentType]
    changes = {"model": "n", "configuration": {"a": 2}, "code_version": 2, "data": "e", "protocol": "q", "seed": 2}
    rest = {Outcome(**{**base, key: value}).run_id for key, value in changes.items()}
    assert len(rest) == len(changes) and first not in rest


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "a*"])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot name a folder"):
        folder_name("model", name)


@pytest.mark.parametrize("group, groups", [(1, 3), (2, 2), (50, 1)])
def test_predictions_come_back_with_short_and_empty_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, groups: int
) -> None:
    monkeypatch.setattr("harness.store.record.GROUP", group)
    path = tmp_path / "predictions.parquet"
    items = np.array([[2, 0, 1], [1, NO_ITEM, NO_ITEM], [NO_ITEM, NO_ITEM, NO_ITEM]])
    scores = np.array([[0.3, 0.2, 0.1], [7.0, 0, 0], [0, 0, 0]])
    written = Predictions(np.array([2, 0, 1]), items, scores)
    write_predictions(path, written, ("x", "y", "z"), ("10", "11", "12"))
    assert pq.ParquetFile(path).num_row_groups == groups
    back = read_predictions(path, ("x", "y", "z"), ("10", "11", "12"))
    assert back.cases.tolist() == [0, 1, 2] and back.items.tolist() == items[[1, 2, 0]].tolist()
    assert back.scores.tolist() == scores[[1, 2, 0]].tolist()
    with pytest.raises(InputError, match="unknown item '12'"):
        read_predictions(path, ("x", "y", "z"), ("10", "11"))
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(tmp_path / "none", (), ())


def replaced(place: Place) -> None:
    """Makes a run, and a fresh one with another metric in its place."""
    store = Store(place.folder)
    put(store)
    (place.folder / "first").touch()
    with store.claim(KEY, fresh=True) as claim:
        claim.folder.checkpoint.mkdir()
        claim.finish(Record.model_validate(document(value=0.9)))


def test_a_replacement_killed_at_any_change_loses_no_run(tmp_path: Path) -> None:
    """Before its record is whole the old run stands, after that the new one; a reader always sees one of them."""
    complete, values = run(replaced, Place(tmp_path / "whole")), []
    assert complete.code == 0
    for change in range(complete.changes, 0, -1):
        place = Place(tmp_path / str(change))
        assert run(replaced, place, Death(change=change)).code == -9
        if not (place.folder / "first").exists():  # the first run was not yet there
            break
        store = Store(place.folder)
        (observed,) = store.query()
        with store.claim(KEY) as claim:
            assert claim.stored is not None
            values.append(claim.stored.record.metrics.test["ndcg@10"])
        assert claim.stored.record == observed.record or values[-1] == 0.9
        assert [folder.name for folder in claim.final.path.parent.iterdir() if folder.is_dir()] == [KEY.run_id]
        assert not claim.final.checkpoint.exists() and not list(claim.final.path.glob(".*"))
    assert set(values) == {0.1, 0.9} and values == sorted(values, reverse=True)


def test_a_holder_that_lost_its_lock_writes_no_record(store: Store) -> None:
    with store.claim(KEY) as claim:
        claim.hold.lost = True  # another machine has waited for longer than the lease
        with pytest.raises(HarnessError, match="taken over"):
            claim.finish(Record.model_validate(document()))
    assert store.query() == []


def test_all_of_a_run_is_on_the_disk_before_its_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("harness.core.files.sync", lambda path: synced.append(path.name))
    with store.claim(KEY) as claim:
        claim.folder.model.mkdir()
        (claim.folder.model / "weights").write_text("x")
        claim.finish(Record.model_validate(document()))
    assert synced[0] == "weights" and len(synced) == 2 and synced[1].startswith(".result.json.")
