"""`harness data prepare` from the command line: what it prints, its exit codes, what the other commands see then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Harness
from tests.data.raw import files


def test_prepare_then_use(harness: Harness, tmp_path: Path) -> None:
    raw = str(files.set_2018(tmp_path / "raw", files.core_rows(8, 8)))
    done = harness("data", "prepare", "instruments", "--raw", raw)
    assert done.code == 0, done.err
    for message in ("in the raw file", "24,772", "-24,764", "hash of tie seed 0", "use it with -d instruments"):
        assert message in done.out
    listed = json.loads(harness("datasets", "--json").out)
    entry = next(entry for entry in listed if entry["name"] == "instruments")
    assert entry["ready"] and (entry["users"], entry["interactions"]) == (8, 64)
    assert not next(entry for entry in listed if entry["name"] == "arts")["ready"]
    assert json.loads(harness("data", "stats", "instruments", "--json").out)["items"] == 8
    assert harness("data", "verify", "instruments").code == 0
    assert harness("run", "mostpop", "-d", "instruments", "--json").code == 0


def test_json_is_one_document(harness: Harness, tmp_path: Path) -> None:
    raw = str(files.set_2018(tmp_path / "raw"))
    arguments = (
        "data",
        "prepare",
        "amazon2018:Musical_Instruments",
        "--raw",
        raw,
        "--tie-seed",
        "2",
        "--text",
        "released",
    )
    document = json.loads(harness(*arguments, "--json").out)
    assert (document["name"], document["fresh"]) == ("instruments-tie2-released", True)
    assert Path(document["path"]).is_dir()
    assert not json.loads(harness(*arguments, "--json").out)["fresh"]


def test_half_the_interactions_lost_is_a_warning(harness: Harness, tmp_path: Path) -> None:
    rows = files.core_rows(12, 12)
    raw = files.set_2018(tmp_path / "raw", rows)
    files.metadata_2018(raw, [f"I{n}" for n in range(5)])
    done = harness("data", "prepare", "instruments", "--raw", str(raw))
    assert done.code == 0 and "warning: 58% of the interactions are with items without metadata" in done.err


def test_mistakes_are_one_line(harness: Harness, tmp_path: Path) -> None:
    for arguments, message in {
        ("data", "prepare", "instrument"): "did you mean instruments",
        ("data", "prepare", "instruments", "--raw", str(tmp_path / "gone")): "no such folder",
        ("data", "prepare", "instruments", "--raw", str(tmp_path)): "no Musical_Instruments.csv",
        ("data", "prepare", "instruments", "--text", "dirty"): "dirty",
        ("data", "prepare", "instruments", "--tie-seed", "-1"): "--tie-seed",
        ("data", "stats", "beauty"): "harness data prepare beauty downloads it",
        ("run", "mostpop", "-d", "arts"): "harness data prepare arts",
    }.items():
        done = harness(*arguments)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_wrong_date_is_named_by_its_option(harness: Harness, option: str, tmp_path: Path) -> None:
    done = harness("data", "prepare", "beauty", "--raw", str(tmp_path), option, "soon")
    assert done.code == 2 and f"{option}: 'soon' is no date" in done.err
