"""`harness data` from the command line: import, export, verify with artefacts, and both protocols."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.data.loading import load_dataset
from harness.data.raw.releases import Published, named_sets
from harness.protocol.audit.provenance import Provenance, write_provenance
from harness.protocol.protocol import Protocol
from harness.protocol.split import split as split_by
from tests import toys
from tests.cli.conftest import Harness

TWO_CUTS = "protocol.cut=[5, 6]"  # the toy's times are 0 to 7 for every user


def test_a_folder_becomes_a_name_that_works_everywhere(harness: Harness, toy: str) -> None:
    document = json.loads(harness("data", "import", toy, "--name", "mine", "--json").out)
    assert document["fingerprint"] == load_dataset(toy).fingerprint and document["order"] == "time"
    assert "mine" in harness("datasets").out
    assert harness("data", "verify", "mine").code == 0
    record = json.loads(harness("run", "fake", "-d", "mine", "--json").out)
    assert record["dataset"]["fingerprint"] == document["fingerprint"]
    assert "fake" in harness("leaderboard", "-d", "mine").out
    assert harness("data", "import", toy, "--name", "mine").code == 0, "the same content again is nothing new"


def test_a_folder_that_shares_its_name_with_a_registered_set_is_not_held_to_it(harness: Harness, toy: str) -> None:
    folder = Path(toy).rename(Path(toy).with_name("ml-100k"))
    done = harness("data", "verify", str(folder))
    assert done.code == 0 and "not in the catalogue" in done.out


def test_a_public_name_is_for_data_with_its_published_counts(
    harness: Harness, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(harness("data", "stats", toy, "--json").out)
    counts = {key: told[key] for key in ("users", "items", "interactions")}
    named = replace(named_sets()["beauty"], published=(Published("a copy", **counts),))
    monkeypatch.setitem(named_sets(), "beauty", named)
    assert harness("data", "import", toy, "--name", "beauty").code == 0
    assert json.loads(harness("data", "stats", "beauty", "--json").out)["users"] == told["users"]


def test_names_that_are_taken_or_unfit(harness: Harness, toy: str, tmp_path: Path) -> None:
    assert "is a registered data set already" in harness("data", "import", toy, "--name", "ml-100k").err
    refused = harness("data", "import", toy, "--name", "beauty")
    assert refused.code == 2 and "22,363, 12,101, 198,502" in refused.err and "choose another name" in refused.err
    assert "is no name for a data set" in harness("data", "import", toy, "--name", "a/b").err
    assert "no such folder" in harness("data", "import", str(tmp_path / "gone"), "--name", "x").err
    harness("data", "import", toy, "--name", "mine")
    rows = (Path(toy) / "interactions.csv").read_text().splitlines()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/interactions.csv").write_text("\n".join(rows[:-8]))
    done = harness("data", "import", str(tmp_path / "other"), "--name", "mine")
    assert done.code == 2 and "kept already, with another content" in done.err and "--replace" in done.err
    assert harness("data", "import", str(tmp_path / "other"), "--name", "mine", "--replace").code == 0
    assert json.loads(harness("data", "stats", "mine", "--json").out)["users"] == 59


def test_a_tie_seed_reorders_equal_times_and_nothing_else(harness: Harness, tmp_path: Path) -> None:
    rows = [(user, item, place // 3) for user in range(30) for place, item in enumerate(range(user, user + 8))]
    (tmp_path / "days").mkdir()
    lines = [f"u{user},i{item},{time}" for user, item, time in rows]
    (tmp_path / "days/interactions.csv").write_text("\n".join(["user,item,timestamp", *lines]))
    result = {}
    for seed in ("1", "2"):
        assert harness("data", "import", "days", "--name", f"tied{seed}", "--tie-seed", seed).code == 0
        result[seed] = load_dataset(f"tied{seed}")
        assert "a hash of tie seed" in " ".join(result[seed].notes)
        messages = zip(result[seed].users, result[seed].sequences, strict=True)
        for user, row in messages:
            items = [int(result[seed].items[item][1:]) - int(user[1:]) for item in row]
            assert [sorted(items[begin : begin + 3]) for begin in (0, 3, 6)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    harness("data", "import", "days", "--name", "again", "--tie-seed", "1")
    marks = [load_dataset(name).fingerprint for name in ("tied1", "tied2", "again", "days")]
    assert marks[0] == marks[2] and len(set(marks)) == 3
    assert harness("data", "import", "days", "--name", "x", "--order", "file", "--tie-seed", "1").code == 2


def test_the_order_of_lines_must_be_asked_for(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    lines = [f"u{user},i{item},0" for user in range(4) for item in range(user, user + 4)]
    (tmp_path / "flat/interactions.csv").write_text("\n".join(["user,item,timestamp", *lines]))
    flat = str(tmp_path / "flat")
    for command in (
        ("data", "verify", flat),
        ("run", "markov", "-d", flat),
        ("data", "import", flat, "--name", "flat"),
    ):
        done = harness(*command)
        assert done.code == 2 and "they state no order in time" in done.err and "--order file" in done.err
        assert harness(*command, "--order", "file").code == 0
    record = json.loads(harness("run", "markov", "-d", flat, "--order", "file", "--json").out)
    assert record["audit"]["order"] == "file" and any("--order file" in n for n in record["details"]["data_notes"])
    repeated = json.loads(harness("run", "markov", "--config", f"{record['path']}/config.yaml", "--json").out)
    assert repeated["run_id"] == record["run_id"]
    assert json.loads(harness("run", "markov", "-d", "flat", "--json").out)["audit"]["order"] == "file"
    done = harness("run", "markov", "-d", "flat", "--protocol", "global-time")
    assert done.code == 2 and "needs timestamps" in done.err


def test_export_says_what_it_loses(harness: Harness, toy: str, tmp_path: Path) -> None:
    for layout in ("recbole", "csv", "parquet"):
        document = json.loads(harness("data", "export", toy, "--layout", layout, "-o", f"{layout}-out", "--json").out)
        assert document["exact"] and document["lost"] == []
        assert load_dataset(document["path"]).fingerprint == document["fingerprint"]
    done = harness("data", "export", toy, "--layout", "lcrec", "-o", "lcrec-out")
    assert done.code == 0 and "not written: timestamps" in done.err and "the same fingerprint" in done.out
    assert harness("data", "export", toy, "--layout", "csv", "-o", "csv-out").code == 2
    assert "did you mean parquet" in harness("data", "export", toy, "--layout", "parket", "-o", "x").err


def test_verify_holds_artefacts_to_the_split(harness: Harness, toy: str, tmp_path: Path) -> None:
    data = load_dataset(toy)
    train = split_by(data, Protocol()).train
    leaky = replace(train, sequences=toys.without_last(data.sequences))
    files = {}
    for name, provenance in {
        "clean": Provenance.of(train, "behavior/1"),
        "leaky": Provenance.of(leaky, "behavior/1"),
        "index": Provenance.joined("index/1", Provenance.of_text("semantic/1"), Provenance.of(leaky, "behavior/1")),
        "unknown": None,
    }.items():
        files[name] = tmp_path / f"{name}.npy"
        np.save(files[name], np.zeros(3))
        if provenance is not None:
            write_provenance(files[name], provenance)
    good = harness("data", "verify", toy, "--artefact", str(files["clean"]), "--artefact", str(files["unknown"]))
    assert good.code == 0 and "unknown provenance" in good.out
    for name in ("leaky", "index"):
        bad = harness("data", "verify", toy, "--artefact", str(files[name]))
        assert bad.code == 2 and f"artefact {name}.npy" in bad.err and "rows held out" in bad.out
    other = harness(
        "data", "verify", toy, "--protocol", "global-time", "--set", TWO_CUTS, "--artefact", str(files["clean"])
    )
    assert other.code == 2, "clean under one protocol is no proof under another"
    np.save(files["clean"], np.ones(3))
    assert "belongs to another content" in harness("data", "verify", toy, "--artefact", str(files["clean"])).out


def test_a_leak_in_the_data_ends_with_2_and_stands_in_the_record(harness: Harness, toy: str, tmp_path: Path) -> None:
    rows = (Path(toy) / "interactions.csv").read_text().splitlines()
    twins = [
        f"v{user},{item},{time}"
        for user in range(20)
        for time, item in enumerate([*(f"i{(7 * user + step) % 24}" for step in range(8)), "i0", "i5"])
    ]
    (tmp_path / "leak").mkdir()
    (tmp_path / "leak/interactions.csv").write_text("\n".join([*rows, *twins]))
    done = harness("data", "verify", str(tmp_path / "leak"))
    assert done.code == 2 and "the audit found 2 leaks: test_copied" in done.err
    run = harness("run", "fake", "-d", str(tmp_path / "leak"), "--json")
    assert run.code == 0 and "the audit detected a leak in leak: test_copied" in run.err
    assert json.loads(run.out)["audit"]["alarms"][0].startswith("test_copied: ")


def test_the_same_models_under_both_protocols(harness: Harness, toy: str, tmp_path: Path) -> None:
    note = harness("leaderboard", "--protocols")
    assert note.code == 0 and "no data set with runs under more than one protocol" in note.err
    for model in ("markov", "mostpop"):
        for protocol in ("leave-one-out", "global-time"):
            sets = ("--set", TWO_CUTS) if protocol == "global-time" else ()
            done = json.loads(harness("run", model, "-d", toy, "--protocol", protocol, *sets, "--json").out)
            assert done["protocol"]["name"] == f"{protocol}/1"
    assert done["protocol"]["cut"] == [5.0, 6.0] and done["audit"]["times"][0] == "1970-01-01T00:00:05Z"
    (crossing,) = json.loads(harness("leaderboard", "--protocols", "--format", "json").out)
    assert [mark["name"] for mark in crossing["protocols"]] == ["leave-one-out/1", "global-time/1"]
    assert crossing["tau"] == [1.0] and [row["ranks"] for row in crossing["rows"]] == [[1, 1], [2, 2]]
    (board,) = json.loads(harness("leaderboard", "--protocol", "global-time", "--format", "json").out)
    assert board["protocol"]["name"] == "global-time/1"
    assert "did you mean global-time/1" in harness("run", "markov", "-d", toy, "--protocol", "global-tame").err


def test_rolling_time_from_the_run_to_the_certificate(harness: Harness, toy: str, tmp_path: Path) -> None:
    """Every user has three test cases (times 5 to 7); lists, metrics, tests, export and certificate go by case."""
    under = ("-d", toy, "--protocol", "rolling-time", "--set", "protocol.cut=[4,5]")
    assert harness("verify", *under[1:]).code == 0
    for model in ("markov", "mostpop"):
        done = json.loads(harness("run", model, *under, "--json").out)
        assert done["integrity"]["users_expected"] == done["integrity"]["users_scored"] == 180
        assert done["audit"]["canary"] == "silent" and done["audit"]["alarms"] == []
    table = pq.read_table(Path(done["path"]) / "predictions.parquet")
    assert {f"u0#{number}" for number in (1, 2, 3)} < set(table["user"].to_pylist())
    compared = json.loads(harness("compare", "markov", "mostpop", "-d", toy, "--json").out)
    assert (compared["users"], compared["comparisons"][0]["users"], compared["comparisons"][0]["cases"]) == (
        60,
        60,
        180,
    )
    (board,) = json.loads(harness("leaderboard", *under[:2], "--columns", "card", "--format", "json").out)
    assert (board["card"]["users"], board["card"]["distinct_users"]) == (180, 60)
    assert harness("data", "export", toy, "-o", "parts", "--split", *under[2:]).code == 0
    histories = json.loads(Path("parts/test_histories.json").read_text())
    assert len(histories["u0#3"]) == len(histories["u0#1"]) + 2 == 7
    answers = dict(line.split(",") for line in Path("parts/test.csv").read_text().splitlines()[1:])
    Path("lists.json").write_text(json.dumps({case: [item] for case, item in answers.items()}))
    measured = json.loads(harness("evaluate", "lists.json", *under, "--json").out)
    assert measured["metrics"]["test"]["recall@1"] == 1.0
    Path("users.json").write_text(json.dumps({"u0": ["i0"]}))
    assert "unknown user 'u0'; name each case USER#N" in harness("evaluate", "users.json", *under).err
    assert harness("certify", "markov", "-d", toy, "-o", "certificate").code == 0
    assert harness("verify", "certificate", "-d", toy).code == 0
    assert (tmp_path / "certificate/qrels.txt").read_text().startswith("u0#1 0 i5 1\nu0#2 0 i6 1\n")


def test_outside_rankings_under_global_time(harness: Harness, toy: str, tmp_path: Path) -> None:
    """Only the users that the protocol asks need a list; lists of others are left out."""
    users = [f"u{user}" for user in range(60)]
    ranked = {user: {f"i{item}": 30 - item for item in range(24)} for user in users}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(ranked))
    under = ("-d", toy, "--protocol", "global-time", "--set", TWO_CUTS, "--json")
    arguments = ("evaluate", str(file), *under)
    complete = json.loads(harness(*arguments).out)
    assert complete["integrity"]["users_scored"] == complete["integrity"]["users_expected"] == 60
    file.write_text(json.dumps({user: ranked[user] for user in users[1:]}))
    assert "1 of 60 users have no ranking ('u0')" in harness(*arguments).err
