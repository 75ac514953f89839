"""`harness compare` from the command line."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from harness.testing.toys import cycle
from tests.cli.conftest import Harness
from tests.folders import csv_folder


def test_compare(harness: Harness, toy: str, tmp_path: Path) -> None:
    for model in ("markov", "mostpop"):
        harness("run", model, "-d", toy)
    done = harness("compare", "markov", "mostpop")
    assert done.code == 0 and "Differences" in done.out and done.out.count("*   +0.") == 2, done.err
    document = json.loads(harness("compare", "markov", "mostpop", "--json", "--metric", "mrr@10").out)
    (result,) = document["comparisons"]
    assert result["metric"] == "mrr@10" and result["significant"] and document["users"] == result["users"] == 60
    assert document["runs"][0]["metrics"]["mrr@10"][0] - document["runs"][1]["metrics"]["mrr@10"][0] == pytest.approx(
        result["difference"]
    )
    for form, message in (("markdown", "| markov | mostpop |"), ("latex", r"\toprule"), ("html", "<table>")):
        path = tmp_path / form
        assert harness("compare", "markov", "mostpop", "--format", form, "-o", str(path)).out == ""
        assert message in path.read_text()
    first, *_ = csv.DictReader(io.StringIO(harness("compare", "markov", "mostpop", "--format", "csv").out))
    expected = json.loads(harness("compare", "markov", "mostpop", "--json").out)["comparisons"][0]
    assert float(first["difference"]) == expected["difference"] and first["significant"] == "True"


def test_a_run_beside_published_rows(harness: Harness, toy: str, tmp_path: Path) -> None:
    for model in ("markov", "mostpop"):
        harness("run", model, "-d", toy)
    (tmp_path / "results" / "published").mkdir()
    (tmp_path / "results" / "published" / "toy.csv").write_text(
        "dataset,release,method,metric,value,hand,source,history\ntoy,not stated,Markov,ndcg@10,0.1,second,Table 9,50\n"
    )
    done = harness("compare", "markov", "--published")
    assert done.code == 0 and "Markov §" in done.out and "history 20 / 50" in done.out and "p Holm" not in done.out
    document = json.loads(harness("compare", "markov", "--published", "--json").out)
    (row,) = document["published"]
    assert row["method"] == "Markov" and row["same_method"] and "comparisons" not in document
    both = json.loads(harness("compare", "markov", "mostpop", "--published", "--json").out)
    assert len(both["comparisons"]) == 2 and [row["run"] for row in both["published"]] == ["markov", "mostpop"]
    for form, message in (("markdown", "| *Markov §* |"), ("latex", r"\toprule"), ("html", 'class="apart"')):
        assert message in harness("compare", "markov", "--published", "--format", form).out
    assert harness("compare", "markov", "--published", "--format", "csv").code == 2


def test_an_ensemble_is_a_row_of_its_own(harness: Harness, toy: str) -> None:
    for model in ("markov", "itemknn"):
        harness("run", model, "-d", toy)
    done = json.loads(harness("ensemble", "markov", "itemknn", "--name", "both", "--json").out)
    assert done["family"] == "ensemble" and done["seed"] is None and len(done["details"]["members"]) == 2
    runs = [json.loads(harness("run", model, "-d", toy, "--json").out) for model in ("markov", "itemknn")]
    assert done["cost"]["train_seconds"] == sum(run["cost"]["train_seconds"] for run in runs)
    assert min(run["metrics"]["test"]["ndcg@10"] for run in runs) <= done["metrics"]["test"]["ndcg@10"]
    assert harness("ensemble", "itemknn", "markov", "--name", "both").code == 0
    assert "both" in harness("compare", "both", "markov").out, "its data are found again"
    rows = json.loads(harness("leaderboard", "-d", "toy", "--format", "json").out)
    assert json.dumps(rows).count('"both"') >= 1
    assert done["details"]["training_free"] and "best trained one" not in harness("leaderboard", "-d", "toy").out
    (row,) = (row for row in rows[0]["rows"] if row["model"] == "both")
    assert row["note"] == "2 runs fused"
    assert "ensemble markov" not in harness("report", "-d", "toy").err
    for arguments, message in (
        (["markov", "--name", "alone"], "one run is no ensemble"),
        (["markov", "itemknn", "--name", "tiger"], "'tiger' is a model of the harness"),
    ):
        refused = harness("ensemble", *arguments)
        assert refused.code == 2 and message in refused.err and len(refused.err.splitlines()) == 1
    assert "no model" in harness("recommend", "both", "--user", "u0").err


@pytest.mark.parametrize("place", ["toy", "./toy"])
def test_the_data_set_chooses_among_a_models_runs(harness: Harness, toy: str, tmp_path: Path, place: str) -> None:
    """By the name under which a folder's runs are stored, from anywhere, and by the folder."""
    csv_folder(tmp_path / "other", cycle(users=40))
    for model in ("markov", "mostpop"):
        harness("run", model, "-d", toy), harness("run", model, "-d", "other")
    refused = harness("compare", "markov", "mostpop")
    assert refused.code == 2 and "has runs on other, toy; say which with -d" in refused.err
    if place == "toy":
        Path("elsewhere").mkdir()
        os.chdir("elsewhere")
    done = harness("compare", "markov", "mostpop", "-d", place, "--results", str(tmp_path / "results"), "--json")
    assert done.code == 0 and json.loads(done.out)["users"] == 60, done.err
    assert harness("compare", "markov", "mostpop", "-d", "nosuch").code == 2


def test_a_model_under_two_protocols_is_refused_by_what_differs(harness: Harness, toy: str) -> None:
    for rules in ("leave-one-out", "global-time"):
        assert harness("run", "markov", "-d", toy, "--protocol", rules).code == 0
    harness("run", "mostpop", "-d", toy)
    done = harness("compare", "markov", "mostpop")
    assert done.code == 2 and "protocol.name is" in done.err
    ids = done.err.partition("give the ids of those that were: ")[2].split()
    assert ids[1] == "or" and harness("compare", ids[0], "mostpop").code != harness("compare", ids[2], "mostpop").code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("compare markov", "a single run cannot be compared"),
        ("compare markov --published", "no runs are stored here"),
        ("compare markov mostpop", "no runs are stored here"),
        ("compare markov mostpop --metric ndcg", "unknown metric 'ndcg'"),
        ("compare markov mostpop --format htm", "did you mean html?"),
        ("compare markov mostpop -o toy", "toy: the path is a folder"),
    ],
)
def test_wrong_input(harness: Harness, arguments: str, message: str) -> None:
    done = harness(*arguments.split())
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1 and done.out == ""
