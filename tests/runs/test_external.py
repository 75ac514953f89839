"""Rankings made elsewhere, measured and stored; anything that is not one whole ranking is refused. The forms that a
file may have, and what equal scores mean, are in `test_rankings`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.errors import InputError
from harness.protocol.protocol import METRICS
from harness.reports.per_user import measured
from harness.runs.external import evaluate
from harness.runs.job import RunOptions, plan
from harness.runs.rankings import TIE_RULE
from harness.runs.run import execute
from harness.store.run_store import Store

Rows = list[tuple[str, int, str, float]]


def write(folder: Path, form: str, rows: Rows) -> Path:
    """The same rankings as a file of one format."""
    path = folder / f"mine.{form}"
    if form == "json":
        lists: dict[str, dict[str, float]] = {}
        for user, _, item, score in rows:
            lists.setdefault(user, {})[item] = score
        path.write_text(json.dumps(lists))
    elif form == "csv":
        path.write_text("user,item,score\n" + "".join(f"{user},{item},{score!r}\n" for user, _, item, score in rows))
    else:
        lines = [f"{user} Q0 {item} {rank} {score!r} tag\n" for user, rank, item, score in rows]
        path.write_text("".join(reversed(lines)))  # the score decides, not the place in the file
    return path


@pytest.fixture
def rows(toy: str, store: Store) -> Rows:
    """The stored predictions of a run."""
    (job,) = plan("fake", RunOptions(dataset=toy))
    table = pq.read_table(Path(execute(job, store).path) / "predictions.parquet")
    return [tuple(row.values()) for row in table.to_pylist()]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("form", ["json", "csv", "trec"])
def test_each_format_gives_the_metrics_of_the_run(
    toy: str, tmp_path: Path, store: Store, rows: Rows, form: str
) -> None:
    done = evaluate(write(tmp_path, form, rows), RunOptions(toy), store)
    (local,) = (run.record for run in store.query() if run.record.model == "fake")
    record = done.record
    assert record.metrics.test == local.metrics.test and set(record.metrics.test) == set(METRICS)
    assert record.integrity == local.integrity and record.protocol == local.protocol
    assert (record.model, record.family, record.seed, record.metrics.valid) == ("mine", "external", None, {})
    assert record.details["ties"] == {"rule": TIE_RULE, "users": 0, "pairs": 0, "by_hash": 0}
    assert record.leaks == [] and record.details["candidates"]["held"] == 60  # a fake that knows the circle
    assert evaluate(write(tmp_path, form, rows), RunOptions(toy), store).reused


def test_the_data_are_found_again_from_anywhere(
    toy: str, tmp_path: Path, store: Store, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(toy).parent)
    done = evaluate(write(tmp_path, "json", rows), RunOptions(Path(toy).name), store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(measured([done.run]).dataset.users) == 60


def test_exclude_history_is_applied_to_files(toy: str, tmp_path: Path, store: Store, rows: Rows) -> None:
    path = write(tmp_path, "csv", rows)
    done = evaluate(path, RunOptions(toy, sets=("protocol.exclude_history=true",)), store)
    assert done.record.integrity.seen == 0 and done.record.metrics.test["recall@1"] == 1.0


def test_seeds_of_one_name_share_a_row(toy: str, tmp_path: Path, store: Store, rows: Rows) -> None:
    path = write(tmp_path, "csv", rows)
    options = [RunOptions(toy, seeds=(seed,)) for seed in (1, 2)]
    first, second = (evaluate(path, one, store, name="other").record for one in options)
    assert first.details["configuration"] == second.details["configuration"] and first.run_id != second.run_id
    with pytest.raises(InputError, match="already stored with other rankings"):
        evaluate(write(tmp_path, "csv", rows[::2]), options[1], store, name="other")


def edited(rows: Rows, **change: object) -> Rows:
    """The rankings with one field of the fifth row changed."""
    names = ("user", "rank", "item", "score")
    row = tuple({**dict(zip(names, rows[4], strict=True)), **change}.values())
    return [*rows[:4], row, *rows[5:]]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("csv", {"user": "nobody"}, "mine.csv line 6: unknown user 'nobody'"),
        ("csv", {"item": "nothing"}, "mine.csv line 6: unknown item 'nothing'"),
        ("csv", {"score": "high"}, "is not a finite number"),
        ("csv", {"score": float("nan")}, "mine.csv line 6: score 'nan' is not a finite number"),
        ("json", {"item": "nothing"}, "mine.json user 'u0': unknown item 'nothing'"),
        ("json", {"score": "0.5"}, "score '0.5' is not a finite number"),
        ("json", {"score": True}, "score True is not a finite number"),
        ("trec", {"score": float("inf")}, "score 'inf' is not a finite number"),
        ("trec", {"item": "two words"}, "7 fields, a TREC run has 6"),
    ],
)
def test_a_wrong_row_is_named(
    toy: str, tmp_path: Path, store: Store, rows: Rows, form: str, change: dict[str, object], message: str
) -> None:
    previous = store.query()
    with pytest.raises(InputError) as raised:
        evaluate(write(tmp_path, form, edited(rows, **change)), RunOptions(toy), store)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert store.query() == previous


@pytest.mark.parametrize("form", ["csv", "trec"])
def test_duplicates_and_missing_users(toy: str, tmp_path: Path, store: Store, rows: Rows, form: str) -> None:
    with pytest.raises(InputError, match=r"item 'i\d+' is listed twice for user 'u0'"):
        evaluate(write(tmp_path, form, [*rows, rows[0]]), RunOptions(toy), store)
    with pytest.raises(InputError, match=r"1 of 60 users have no ranking \('u0'\)"):
        evaluate(write(tmp_path, form, [row for row in rows if row[0] != "u0"]), RunOptions(toy), store)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"u0": {"i0": 1, "i0": 2}}', "'i0' is repeated"),
        ("a.json", '{"u0": {"i0": 1}, "u0": {}}', "'u0' is repeated"),
        ("a.json", '{"u0": {', "a.json line 1 column 9: not JSON"),
        ("a.json", "[]", "is not a mapping of users"),
        ("a.json", '{"u0": "i0"}', "user 'u0': is neither a mapping of items to scores nor a list of items"),
        ("a.json", '{"u0": ["i0"], "u1": {"i0": 1}}', "user 'u1': has scores for some users only"),
        ("a.json", '{"u0": [["i0", 1], ["i1"]]}', "is not an item; write items as text or integers"),
        ("a.json", '{"u0": ["i0", "i0"]}', "item 'i0' is listed twice for user 'u0'"),
        ("a.json", '{"u0": ["i0"], "u7": []}', "58 of 60 users have no ranking ('u1', 'u2', 'u3', …); rank items for"),
        ("a.json", '{"u0": ["i0"], "nobody": []}', "unknown user 'nobody'"),
        ("a.csv", "user,item,score\nu0,i0\n", "a.csv line 2: 2 fields where the header has 3"),
        ("a.csv", "user,user_id,item\nu0,u0,i0\n", "a.csv line 1: columns 'user' and 'user_id' both name the user"),
        ("a.csv", "user,price\nu0,1\n", "a.csv line 1: no column 'item'; begin with a header such as user,item,score"),
        (
            "a.csv",
            "user,item,rank\nu0,i0,first\n",
            "a.csv line 2: rank 'first' is not a finite number; give a number, 1 is",
        ),
        ("a.csv", "user,item\nu0,i0\nu0,\n", "a.csv line 3: user 'u0' has items and a row without an item"),
        ("a.run", "u0 i0 1.0\n", "a.run line 1: 3 fields, a TREC run has 6"),
        ("a.lz4", "user,item", "a.lz4: not a file of ranx's Run.save"),
        ("a.parquet", "user,item", "a.parquet: cannot be read as Parquet"),
        ("a.csv", "", "the file is empty"),
        ("markov.csv", "user,item,score\n", "'markov' is a model of the harness"),
        ("two words.csv", "user,item,score\n", "cannot name a folder"),
    ],
)
def test_a_wrong_file_is_named(toy: str, tmp_path: Path, store: Store, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as raised:
        evaluate(tmp_path / name, RunOptions(toy), store)
    assert message in str(raised.value) and not store.query()


def test_a_missing_file(toy: str, tmp_path: Path, store: Store) -> None:
    with pytest.raises(InputError, match="the file is missing"):
        evaluate(tmp_path / "none.csv", RunOptions(toy), store)
