"""`harness index`: what is built, what is written beside it, what is said of it, and wrong input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Harness
from tests.folders import csv_folder

QUICK = ("--profile", "smoke", "--set", 'eager.index.sources=["behavior"]', "--set", "eager.behavior.epochs=1")


def test_build_then_inspect(harness: Harness, toy: str) -> None:
    done = harness("index", "build", "-d", toy, "-o", "toy.index.json", *QUICK, "--json")
    assert done.code == 0, done.err
    built = json.loads(done.out)
    assert (built["items"], built["collision_rate"], built["affected_targets"]) == (24, 0.0, 0.0)
    assert (built["kind"], built["rows"]) == ("tree", "training") and len(built["levels"]) == 2
    index = json.loads(Path("toy.index.json").read_text())
    assert len(index) == 24 and all(len(code) == 2 for code in index.values())
    assert Path("toy.index.json.provenance.json").is_file()
    inspected = json.loads(harness("index", "inspect", "toy.index.json", "-d", toy, "--json").out)
    assert {key: inspected[key] for key in ("fingerprint", "levels", "rows")} == {
        key: built[key] for key in ("fingerprint", "levels", "rows")
    }
    table = harness("index", "inspect", "toy.index.json", "-d", toy)
    assert table.code == 0 and "fanout mean" in table.out and "warning" not in table.err


def test_the_seed_and_the_settings_are_read(harness: Harness, toy: str) -> None:
    marks = set()
    for extra in ((), ("--seed", "2"), ("--set", "eager.index.order=released"), ("--set", "eager.index.kind=random")):
        done = harness("index", "build", "-d", toy, "-o", "x.json", *QUICK, *extra, "--json")
        marks.add(json.loads(done.out)["fingerprint"])
    assert len(marks) == 4


def test_collisions_are_warned_of_and_affected_targets_counted(harness: Harness, toy: str) -> None:
    shared = {f"i{item}": [f"<a_{item // 2}>"] if item < 4 else [f"<a_{item}>"] for item in range(24)}
    Path("shared.json").write_text(json.dumps(shared))
    done = harness("index", "inspect", "shared.json", "-d", toy, "--json")
    document = json.loads(done.out)
    assert document["collision_rate"] == pytest.approx(4 / 24) and document["groups"] == document["biggest_group"] == 2
    affected = sum((7 * user + 7) % 24 < 4 for user in range(60))  # the circle's last items
    assert document["affected_targets"] == pytest.approx(affected / 60)
    assert "16.7% of the items share their code" in done.err
    later = harness("index", "inspect", "shared.json", "-d", toy, "--protocol", "rolling-time", "--json")
    assert json.loads(later.out)["affected_targets"] != document["affected_targets"], "its targets, not the default's"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "-o", "x.json", "--model", "markov"), "markov has no item codes; choose eager or eager-llm"),
        (("build", "-o", "no/such/x.json"), "no such folder"),
        (("build", "-o", "x.json", "--set", "eager.index.kind=tre"), "'tree'"),
        (
            ("build", "-o", "x.json", "--profile", "smoke", "--set", "eager.index.k=99"),
            "24 items are fewer than index.k",
        ),
        (("inspect", "nothing.json"), "the file is missing"),
        (("inspect", "other.json"), "unknown items have a code"),
    ],
)
def test_wrong_input_is_one_line(arguments: tuple[str, ...], message: str, harness: Harness, toy: str) -> None:
    Path("other.json").write_text(json.dumps({f"i{item}": [f"<a_{item}>"] for item in range(25)}))
    done = harness("index", *arguments, "-d", toy)
    assert done.code == 2 and message in done.err and len(done.err.strip().splitlines()) == 1
    assert not Path("x.json").exists()


def test_a_built_index_is_refused_for_other_training_rows(harness: Harness, toy: str, tmp_path: Path) -> None:
    assert harness("index", "build", "-d", toy, "-o", "x.json", *QUICK).code == 0
    other = Path(csv_folder(tmp_path / "other"))
    rows = (other / "interactions.csv").read_text().splitlines()
    (other / "interactions.csv").write_text("\n".join([rows[0], *rows[6:]]) + "\n")
    options = ("--set", "eager.index.kind=file", "--set", f"eager.index.file={Path('x.json').resolve()}")
    done = harness("index", "build", "-d", str(other), "-o", "y.json", *QUICK, *options)
    assert done.code == 2 and "rows held out here may be among them" in done.err
