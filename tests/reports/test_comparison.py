"""Comparing stored runs: which runs a name means, what may be compared, and the numbers against plain code."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.reports.comparison import compare, groups, sheets
from harness.reports.selection import choose
from harness.reports.tables import table_text
from harness.store.run_store import Store
from tests import toys
from tests.folders import csv_folder
from tests.reports.conftest import Make
from tests.store.made import put


def test_differences_are_of_the_same_users(store: Store, make_run: Make) -> None:
    a, b = np.stack([make_run("a", 1), make_run("a", 2)]), make_run("b", 3, shift=5)
    result = compare(choose(store, ["a", "b"]), ("ndcg@10", "recall@10"))
    first, second = result.pairs
    apart = a.mean(axis=0) - b
    assert first.found.difference == pytest.approx(apart.mean(), abs=1e-12) and first.found.users == 120
    assert (first.found.wins, first.found.losses) == ((apart > 1e-12).sum(), (apart < -1e-12).sum())
    assert first.found.mean_a == pytest.approx(a.mean()) and (first.a, first.b) == ("a", "b")
    low, high = sorted((first.found.p, second.found.p))
    assert {first.p_corrected, second.p_corrected} == {max(min(2 * low, 1), 0), max(2 * low, high)}
    assert result == compare(choose(store, ["a", "b"]), ("ndcg@10", "recall@10")), "the same runs give the same digits"


def test_the_breakdown_parts_the_users(store: Store, make_run: Make) -> None:
    make_run("a", 1), make_run("b", 2, shift=3)
    result = compare(choose(store, ["a", "b"]), ("ndcg@10",))
    for by in ("history length", "target's training count"):
        parts = [part for part in result.parts if part.by == by]
        assert len(parts) > 2 and sum(part.users for part in parts) == 120
        assert all(one.high < two.low for one, two in pairwise(parts))
        total = sum(part.difference * part.users for part in parts) / 120
        assert total == pytest.approx(result.pairs[0].found.difference)
    lengths = toys.noise(users=120).sequences.lengths - 1
    histories = [part for part in result.parts if part.by == "history length"]
    assert [part.users for part in histories] == [
        int(((lengths >= part.low) & (lengths <= part.high)).sum()) for part in histories
    ]


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1], [0, 0], [1, 2], list(range(100))])
def test_groups_hold_everybody_once(sizes: list[int]) -> None:
    result = groups(np.array(sizes))
    assert all(sum(low <= size <= high for low, high in result) == 1 for size in sizes)


def test_names(store: Store, make_run: Make, tmp_path: Path) -> None:
    make_run("a", 1), make_run("a", 2), make_run("b", 3)

    def chosen(*names: str) -> list[list[str]]:
        return [[run.record.run_id for run in side.runs] for side in choose(store, names)]

    assert chosen("a", "b") == [["seed1-a", "seed2-a"], ["seed3-b"]]
    assert chosen("seed1", "seed2-a") == [["seed1-a"], ["seed2-a"]]
    assert chosen("seed2,seed1", "seed3") == [["seed1-a", "seed2-a"], ["seed3-b"]]
    assert chosen(str(store.runs / "b" / "toy" / "seed3-b"), "seed1") == [["seed3-b"], ["seed1-a"]]
    labels = [side.label for side in choose(store, ["seed1", "seed2", "b"])]
    assert len(set(labels)) == 3 and "seed1-a" in labels[0] and labels[2] == "b"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["seed1-aa", "b"], "unknown run 'seed1-aa'; did you mean seed1-a"),
        (["qqqqqqq", "b"], "stored models: a, b, c"),
        (["seed", "b"], "'seed' begins the ids of 5 runs"),
        (["a", "seed1-a,seed2-a"], "'a' is given twice"),
        (["seed1-a,seed3-b", "a"], "joins runs of several models"),
        (["c", "b"], "several configurations: seed4-c (profile=x1); seed5-c (profile=x2)"),
        (["seed1-a,seed1-a", "b"], "has a seed twice"),
        ([",", "b"], "names no run"),
    ],
)
def test_wrong_names(store: Store, make_run: Make, names: list[str], message: str) -> None:
    make_run("a", 1), make_run("a", 2), make_run("b", 3)
    make_run("c", 4, details={"configuration": "c1"}, profile="x1")
    make_run("c", 5, details={"configuration": "c2"}, profile="x2")
    with pytest.raises(InputError) as raised:
        choose(store, names)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_other_data_and_other_rules_are_refused_by_name(store: Store, make_run: Make) -> None:
    make_run("a", 1)
    put(store, model="b", protocol={"fingerprint": "p1", "exclude_history": True})
    with pytest.raises(InputError) as raised:
        compare(choose(store, ["a", "b"]), ("ndcg@10",))
    message = str(raised.value)
    assert "protocol.exclude_history is False or True" in message and "dataset.fingerprint is" in message
    assert "max_history" not in message
    with pytest.raises(InputError, match=r"unknown data set .other."):
        choose(store, ["a", "b"], "other")


def test_data_that_changed_are_not_what_was_measured(store: Store, make_run: Make, tmp_path: Path) -> None:
    make_run("a", 1), make_run("b", 2)
    other = csv_folder(tmp_path / "other", toys.cycle())
    with pytest.raises(InputError, match=r"the data here .* is not what seed1-a was measured on"):
        compare(choose(store, ["a", "b"]), ("ndcg@10",), str(other))
    (tmp_path / "toy" / "interactions.csv").rename(tmp_path / "toy" / "elsewhere")
    with pytest.raises(InputError, match="give the folder of toy with -d"):
        compare(choose(store, ["a", "b"]), ("ndcg@10",))


def test_a_corrupt_record_is_named(store: Store, make_run: Make) -> None:
    make_run("a", 1), make_run("b", 2)
    (store.runs / "b" / "toy" / "seed2-b" / "result.json").write_text('{"schema": 99}')
    with pytest.raises(InputError, match=r"seed2-b/result\.json: schema 99 is newer"):
        choose(store, ["a", "b"])


@pytest.mark.parametrize("text", ["{", '{"schema": 99}', '{"schema": 1}'])
def test_a_bad_record_does_not_stop_the_models_other_seeds(
    store: Store, make_run: Make, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("a", 1), make_run("b", 2), make_run("b", 3)
    (store.runs / "b" / "toy" / "seed2-b" / "result.json").write_text(text)
    assert [side.first.run_id for side in choose(store, ["a", "b"])] == ["seed1-a", "seed3-b"]
    message = capsys.readouterr().err
    assert message.startswith("warning: skipped ") and "seed2-b/result.json" in message and message.count("\n") == 1
    with pytest.raises(InputError, match=r"seed2-b/result\.json"):  # asked for by its own name
        choose(store, ["a", "seed2-b"])


def test_runs_of_different_data_sets_are_refused_by_name(store: Store, make_run: Make) -> None:
    make_run("a", 1)
    put(store, model="b", dataset={"name": "other", "users": 6})
    with pytest.raises(InputError, match=r"dataset\.name is toy or other.*compare runs of one data set"):
        compare(choose(store, ["a", "b"]), ("ndcg@10",))


def test_a_single_seed_has_no_spread_and_says_so(store: Store, make_run: Make) -> None:
    make_run("a", 1), make_run("a", 2), make_run("b", 3)
    result = compare(choose(store, ["a", "b"]), ("ndcg@10",))
    text = table_text(sheets(result))
    assert "A single seed of b: no spread over seeds" in text and result.pairs[0].p_seeds is None
    make_run("b", 4)
    assert "single seed" not in table_text(sheets(compare(choose(store, ["a", "b"]), ("ndcg@10",))))


def test_the_sheets_say_it(store: Store, make_run: Make) -> None:
    for seed in range(1, 4):
        make_run("a", seed)
        make_run("b", seed + 3, shift=12, leaks=["it saw them"])
    result = compare(choose(store, ["a", "b"]), ("ndcg@10",))
    assert result.pairs[0].significant and result.pairs[0].p_seeds == pytest.approx(0.1)
    text = table_text(sheets(result))
    assert "b ‡" in text and "it saw them" in text and "<0.001" in text and "for 1 comparison;" in text
    assert f"+{result.pairs[0].found.difference:.4f}*" in text and " ± " in text and "history length" in text
    observed = result.document()
    assert (
        observed["family"] == 1
        and observed["comparisons"][0]["significant"]
        and observed["runs"][1]["leaks"] == ["it saw them"]
    )
