"""`harness recommend`: items from stored models, and what is said where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.store.run_store import Store
from tests.cli.conftest import Harness
from tests.folders import csv_folder, lcrec_folder


def recommended(harness: Harness, *arguments: str) -> list[dict[str, Any]]:
    done = harness("recommend", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["recommendations"]


def items(recommendation: dict[str, Any]) -> list[str]:
    return [entry["item"] for entry in recommendation["items"]]


def test_a_history_gets_what_follows_it(harness: Harness, toy: str) -> None:
    """The toy is a circle of 24 items: after i9 comes i10."""
    harness("run", "markov", "-d", toy)
    (result,) = recommended(harness, "markov", "--history", "i3, i9", "-k", "3")
    assert items(result)[0] == "i10" and len(result["items"]) == 3
    assert [entry["item"] for entry in result["history"]] == ["i3", "i9"]
    assert [entry["rank"] for entry in result["items"]] == [1, 2, 3]
    assert harness("recommend", "markov", "--history", "i3,i9").out.split().count("i10") == 1


def test_a_user_is_asked_after_all_interactions(harness: Harness, toy: str) -> None:
    """User u1 begins at i7 and has eight items: the last is i14, the test item."""
    harness("run", "markov", "-d", toy)
    (result,) = recommended(harness, "markov", "--user", "u1", "-k", "1")
    assert result["user"] == "u1" and result["history"][-1]["item"] == "i14" and items(result) == ["i15"]


def test_titles_stand_beside_items(harness: Harness, tmp_path: Path) -> None:
    folder = str(lcrec_folder(tmp_path / "texts"))
    harness("run", "markov", "-d", folder)
    (result,) = recommended(harness, "markov", "--history", "i3", "-k", "1")
    assert result["items"][0]["title"] == "black round box no 4"
    assert "black round box no 4" in harness("recommend", "markov", "--history", "i3", "-k", "1").out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("asked.json", '{"a": ["i3", "i9"], "u5": ["i1"]}'),
        ("asked.csv", "user_id,item_id\na,i3\nu5,i1\na,i9\n"),
        ("asked.txt", "i3,i9\n\ni1\n"),
        ("lists.json", '[["i3", "i9"], ["i1"]]'),
    ],
)
def test_files_of_histories(harness: Harness, toy: str, name: str, text: str) -> None:
    harness("run", "markov", "-d", toy)
    Path(name).write_text(text)
    result = recommended(harness, "markov", "--file", name, "-k", "1")
    assert [items(one) for one in result] == [["i10"], ["i2"]]
    named = name in ("asked.json", "asked.csv")
    assert [one["user"] for one in result] == (["a", "u5"] if named else [None, None])


def test_unseen_items_alone(harness: Harness, toy: str) -> None:
    harness("run", "mostpop", "-d", toy)
    first = items(recommended(harness, "mostpop", "--history", "i0", "-k", "5")[0])
    (result,) = recommended(harness, "mostpop", "--history", ",".join(first[:3]), "-k", "5", "--unseen")
    assert not set(first[:3]) & set(items(result)) and len(result["items"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["markov"], "--history A,B,C, --user U or --file F"),
        (["markov", "--user", "u1", "--history", "i1"], "exactly one of"),
        (["markov", "--user", "u99x"], "unknown user 'u99x'; did you mean"),
        (["markov", "--history", "i1,i99x"], "unknown item 'i99x'; did you mean"),
        (["markov", "--history", ","], "there is no item"),
        (["markov", "--file", "none.json"], "none.json"),
        (["markow", "--history", "i1"], "unknown run 'markow'; did you mean markov?"),
    ],
)
def test_what_is_wrong_is_said(harness: Harness, toy: str, arguments: list[str], message: str) -> None:
    harness("run", "markov", "-d", toy)
    done = harness("recommend", *arguments)
    assert done.code == 2 and message in done.err and not done.out, done.err
    assert len(done.err.splitlines()) == 1


def test_several_seeds_ask_for_one(harness: Harness, toy: str) -> None:
    harness("run", "markov", "-d", toy, "--seed", "1", "--seed", "2")
    done = harness("recommend", "markov", "--history", "i1")
    assert done.code == 2 and "stands for 2 runs; name one of seed1-" in done.err
    assert harness("recommend", "seed2", "--history", "i1").code == 0


def test_a_run_without_a_model(harness: Harness, toy: str) -> None:
    harness("run", "markov", "-d", toy)
    (run,) = Store(Path("results")).query()
    shutil.rmtree(run.folder.model)
    done = harness("recommend", "markov", "--history", "i1")
    assert done.code == 2 and "this run has no stored model; repeat the run: harness run markov --config" in done.err


def test_rankings_made_elsewhere_have_no_model(harness: Harness, toy: str) -> None:
    harness("run", "markov", "-d", toy)
    (run,) = Store(Path("results")).query()
    harness("evaluate", str(run.folder.predictions), "-d", toy, "--name", "mine")
    done = harness("recommend", "mine", "--history", "i1")
    assert done.code == 2 and "external rankings and thus no model" in done.err


def test_a_data_set_that_is_gone_or_changed(harness: Harness, toy: str) -> None:
    harness("run", "markov", "-d", toy)
    Path("moved").mkdir()
    moved = Path(toy).rename(Path("moved", "toy"))
    done = harness("recommend", "markov", "--history", "i1")
    assert done.code == 2 and "give the folder of toy with -d" in done.err, done.err
    done = harness("recommend", "seed1", "--history", "i1", "-d", str(moved))
    assert done.code == 0, done.err
    csv_folder(Path(toy))
    rows = Path(toy, "interactions.csv").read_text().splitlines()
    Path(toy, "interactions.csv").write_text("\n".join(rows[:-1]) + "\n")
    done = harness("recommend", "markov", "--history", "i1")
    assert done.code == 2 and "has changed since the run" in done.err
