"""What the commands print: one JSON document on stdout, tables, and the files they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.protocol.protocol import METRICS
from harness.registry import model_entries
from harness.store.record import Record
from tests.cli.conftest import Harness


def test_run_ends_with_metrics_and_its_place(harness: Harness, toy: str) -> None:
    harness("run", "mostpop", "-d", toy)
    done = harness("run", "fake", "-d", toy)
    assert done.code == 0 and "fake is number 1 of 2 on toy" in done.out and "recall@20" in done.out
    assert "a library that prints" not in done.out and "a library that prints" in done.err
    repeated = harness("run", "fake", "-d", toy)
    assert repeated.code == 0 and "is complete already" in repeated.err and repeated.out == done.out


def test_run_json_is_one_document(harness: Harness, toy: str) -> None:
    done = harness("run", "fake", "-d", toy, "--json")
    document = json.loads(done.out)
    path = Path(document.pop("path"))
    assert document == json.loads((path / "result.json").read_text())
    assert Record.model_validate(document).model == "fake" and "number 1 of 1" in done.err
    assert json.loads(harness("run", "fake", "-d", toy, "--json").out)["finished"] == document["finished"]
    fresh = json.loads(harness("run", "fake", "-d", toy, "--json", "--fresh").out)
    assert fresh["finished"] > document["finished"] and fresh["metrics"] == document["metrics"]


def test_several_seeds_are_a_list_and_one_row(harness: Harness, toy: str) -> None:
    done = harness("run", "fake", "-d", toy, "--seed", "1", "--seed", "2", "--json")
    assert [document["seed"] for document in json.loads(done.out)] == [1, 2]
    (board,) = json.loads(harness("leaderboard", "-d", toy, "--format", "json").out)
    assert [(row["model"], row["n"]) for row in board["rows"]] == [("fake", 2)]


def test_a_stored_configuration_repeats_the_run(harness: Harness, toy: str) -> None:
    options = ("--set", "fake.rate=0.3", "--seed", "7", "--profile", "smoke")
    first = json.loads(harness("run", "fake", "-d", toy, *options, "--json").out)
    repeated = harness("run", "fake", "--config", str(Path(first["path"]) / "config.yaml"), "--json")
    assert json.loads(repeated.out)["run_id"] == first["run_id"] and "is complete already" in repeated.err


def test_models_and_datasets(harness: Harness) -> None:
    models = json.loads(harness("models", "--json").out)
    assert [entry["name"] for entry in models] == list(model_entries())
    assert {"name", "family", "description", "paper", "needs"} <= set(models[0])
    (ml,) = (entry for entry in json.loads(harness("datasets", "--json").out) if entry["name"] == "ml-100k")
    assert ml["users"] == 943 and isinstance(ml["ready"], bool) and {"source", "licence"} <= set(ml)
    assert "recbole:NAME" in harness("models").out
    assert "eager-llm" in harness("models").out and "ml-100k" in harness("datasets").out


def test_leaderboard_formats_and_file(harness: Harness, toy: str, tmp_path: Path) -> None:
    empty = harness("leaderboard")
    assert empty.code == 0 and empty.out == "" and "no runs stored" in empty.err
    harness("run", "mostpop", "-d", toy)
    for form, message in (("table", "mostpop"), ("markdown", "| 1 | mostpop |"), ("csv", ",1,mostpop,")):
        assert message in harness("leaderboard", "--format", form).out
    printed = harness("leaderboard", "-d", "toy", "--format", "csv").out
    done = harness("leaderboard", "-d", "toy", "--format", "csv", "-o", str(tmp_path / "board.csv"))
    assert done.out == "" and (tmp_path / "board.csv").read_text() == printed
    refused = harness("leaderboard", "-d", "toy", "-o", str(tmp_path / "board.csv" / "x"))
    assert refused.code == 2 and "choose another place with -o" in refused.err
    assert "no published rows for toy" in harness("leaderboard", "-d", "toy", "--published").err
    assert "EAGER-LLM §" in harness("leaderboard", "-d", "beauty", "--published").out
    timed = harness("leaderboard", "-d", "toy", "--published", "--protocol", "global-time")
    assert timed.out == "" and "no runs stored" in timed.err


def test_evaluate(harness: Harness, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("user,item,score\n" + "".join(f"u{user},i{user % 24},1\n" for user in range(60)))
    done = harness("evaluate", str(path), "-d", toy, "--json")
    document = json.loads(done.out)
    assert (document["model"], document["family"]) == ("theirs", "external") and document["integrity"]["short"] == 60
    named = harness("evaluate", str(path), "-d", toy, "--name", "paper")
    assert "paper is number" in named.out and set(document["metrics"]["test"]) == set(METRICS)


def test_data_stats_and_verify(harness: Harness, toy: str) -> None:
    document = json.loads(harness("data", "stats", toy, "--json").out)
    assert (document["users"], document["items"], document["interactions"]) == (60, 24, 480)
    assert "interactions" in harness("data", "stats", toy).out
    verified = json.loads(harness("data", "verify", toy, "--json").out)
    assert verified["ok"] and all(check["ok"] for check in verified["checks"])
    assert harness("data", "verify", toy).code == 0


def test_a_data_set_that_breaks_a_rule(harness: Harness, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    folder.mkdir()
    (folder / "interactions.csv").write_text("user,item,timestamp\na,x,1\na,y,2\nb,x,1\nb,y,2\nb,z,3\n")
    done = harness("data", "verify", str(folder), "--json")
    assert done.code == 2 and not json.loads(done.out)["ok"] and "rules are broken" in done.err


def test_doctor(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.runs import doctor

    document = json.loads(harness("doctor", "--json").out)
    assert {"machine", "devices", "packages", "datasets", "backbones"} == set(document)
    assert {"python", "cores", "memory", "disk here"} <= set(document["machine"]) and document["devices"][0][
        "name"
    ] == "cpu"
    assert any(entry["name"] == "numpy" and entry["ok"] for entry in document["packages"])
    assert any(entry["name"] == "rectools" for entry in document["packages"]), "no requirement, but models need it"
    monkeypatch.setattr(doctor, "_requirements", lambda: ["numpy>=99", "no-such-package"])
    monkeypatch.setattr(doctor, "BACKBONES", {"no_such_module": ("X", "pip install x")})
    done = harness("doctor")
    instruments = next(entry for entry in document["datasets"] if entry["name"] == "instruments")
    assert instruments["ok"] or "harness data prepare instruments" in instruments["hint"]
    assert 'pip install "numpy>=99"' in done.out and "pip install no-such-package" in done.out.replace('"', "")
    assert "pip install x" in done.out


def test_help_and_version(harness: Harness) -> None:
    assert "JSON object of items" in harness("index", "--help").out
    assert harness().out == harness("--help").out and "leaderboard" in harness("-h").out
    assert harness("data").code == 0 and "verify" in harness("data").out
    assert harness("--version").out.startswith("harness ")
