"""How files are read, from the command line: the options, what a stored run keeps of them, and `data items`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.data.loading import load_dataset
from harness.data.reading import Reading
from harness.errors import InputError
from tests.cli.conftest import Harness

LAST = "u_short"


@pytest.fixture
def strange(toy: str) -> Path:
    """The toy under other names of columns, with a user of two purchases, ratings, and one line that is wrong."""
    lines = (Path(toy) / "interactions.csv").read_text().splitlines()
    rows = [f"{line},{5 if n % 9 else 1}" for n, line in enumerate(lines[1:])]
    path = Path(toy).parent / "march log.csv"
    body = [*rows, f"{LAST},i0,1,5", f"{LAST},i1,2,5", "u0,i1,never,5"]
    path.write_text("\n".join(["buyer;what;at;stars", *(row.replace(",", ";") for row in body)]) + "\n")
    return path


COLUMNS = ("--columns", "user=buyer,item=what,timestamp=at")


def test_a_run_on_a_file_with_columns_and_filters(harness: Harness, strange: Path) -> None:
    done = harness("run", "fake", "-d", str(strange), *COLUMNS)
    assert done.code == 2 and f"user '{LAST}' has 2 interactions" in done.err and "--min-user 3" in done.err
    done = harness("run", "fake", "-d", str(strange), *COLUMNS, "--min-user", "3", "--json")
    assert done.code == 0 and "1 of 483 lines are wrong and left out" in done.err
    record = json.loads(done.out)
    assert record["dataset"]["name"] == "march-log" and record["dataset"]["users"] == 60
    assert record["audit"]["lost"]["lines of the interactions file that are wrong"] == 1
    assert harness("leaderboard", "-d", str(strange)).code == 0
    stored = Path(record["path"]) / "config.yaml"
    message = yaml.safe_load(stored.read_text())
    assert message["data"] == {"columns": {"user": "buyer", "item": "what", "timestamp": "at"}, "min_user": 3}
    repeated = harness("run", "fake", "--config", str(stored), "--json")
    assert json.loads(repeated.out)["run_id"] == record["run_id"]
    board = json.loads(harness("leaderboard", "--columns", "command", "--format", "json").out)
    assert "--columns user=buyer,item=what,timestamp=at --min-user 3" in json.dumps(board)
    assert harness("compare", record["run_id"], record["run_id"]).code in (0, 2)


def test_the_options_mean_the_same_in_every_command(harness: Harness, strange: Path) -> None:
    options = (*COLUMNS, "--core", "4", "--min-rating", "2")
    expected = Reading.of({"columns": COLUMNS[1], "core": 4, "min_rating": 2.0})
    data = load_dataset(str(strange), reading=expected)
    stats = json.loads(harness("data", "stats", str(strange), *options, "--json").out)
    assert stats["fingerprint"] == data.fingerprint and stats["interactions"] == data.interactions
    document = json.loads(harness("data", "import", str(strange), "--name", "mine", *options, "--json").out)
    assert document["fingerprint"] == data.fingerprint == load_dataset("mine").fingerprint
    assert harness("data", "verify", str(strange), *options).code == 0
    assert harness("data", "export", str(strange), *options, "--layout", "csv", "-o", "out").code == 0
    assert load_dataset("out").fingerprint == data.fingerprint
    listed = json.loads(harness("data", "items", "mine", "--json").out)
    assert listed["items"] == list(load_dataset("mine").items)
    assert harness("data", "items", "mine").out.splitlines() == listed["items"]


@pytest.mark.parametrize(
    "document",
    [{"columns": ["user"]}, {"columns": 5}, {"core": "five"}, {"core": 5.0}, {"core": True}, {"min_user": "3"}],
)
def test_a_wrong_section_data_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"mine.yaml: {next(iter(document))} is "):
        Reading.of(document, "mine.yaml")
    assert Reading.of({"min_user": None, "core": None}) == Reading()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--columns", "user"), "names no columns"),
        (("--columns", "buyer=user"), "unknown column 'buyer'"),
        (("--bad-lines", "2"), "--bad-lines: 2.0 is no share of lines"),
        (("--core", "0"), "--core"),
        (("--min-rating", "9", *COLUMNS), "no interaction is rated 9 or more"),
        ((*COLUMNS, "--core", "99"), "nothing is left with users of 99"),
    ],
)
def test_wrong_options_are_one_line(harness: Harness, strange: Path, options: tuple[str, ...], message: str) -> None:
    done = harness("data", "stats", str(strange), *options)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1


def test_a_registered_set_takes_filters_but_no_columns(harness: Harness) -> None:
    done = harness("data", "stats", "ml-100k", "--columns", "user=user_id")
    assert done.code == 2 and "--columns is for folders and files" in done.err
    stats = json.loads(harness("data", "stats", "ml-100k", "--min-item", "50", "--json").out)
    assert stats["item_count"]["min"] >= 50


def test_items_without_text(harness: Harness, toy: str) -> None:
    items = load_dataset(toy).items
    (Path(toy) / "items.csv").write_text("item,title\n" + "".join(f"{item},T {item}\n" for item in items[1:]))
    arguments = ("run", "tiger", "-d", toy, "--profile", "smoke", "--explain", "--json")
    done = harness(*arguments)
    assert done.code == 2 and f"1 of {len(items)} items have no text ({items[0]})" in done.err
    assert "--set tiger.missing_text=drop" in done.err
    complete = load_dataset(toy)
    for way, stored in (("empty", complete.fingerprint), ("drop", None)):
        document = json.loads(harness(*arguments, "--set", f"tiger.missing_text={way}").out)
        inputs = next(step["inputs"] for step in document["steps"] if "data" in step["inputs"])
        assert (inputs["data"] == stored) if stored else (inputs["data"] != complete.fingerprint)


def test_a_name_with_blanks_works_in_every_command(harness: Harness, toy: str) -> None:
    assert harness("data", "import", toy, "--name", "my shop é").code == 0
    record = json.loads(harness("run", "fake", "-d", "my shop é", "--json").out)
    assert record["dataset"]["name"] == "my-shop-e"
    for name in ("my shop é", "my-shop-e"):
        assert "fake" in harness("leaderboard", "-d", name).out
        assert harness("data", "stats", name).code == 0


def test_ready_vectors_by_the_printed_ids(harness: Harness, toy: str, tmp_path: Path) -> None:
    ids = harness("data", "items", toy).out.splitlines()
    values = np.random.default_rng(1).normal(size=(len(ids), 4))
    np.save(tmp_path / "v.npy", values)
    arguments = ("index", "build", "-d", toy, "--model", "tiger", "--profile", "smoke", "-o", "i.json")
    sets = ("--set", f"tiger.semantic.vectors={tmp_path / 'v.npy'}")
    done = harness(*arguments, *sets)
    assert done.code == 2 and "the rows of a bare .npy name no items" in done.err
    (tmp_path / "v.ids.txt").write_text("\n".join(ids))
    assert harness(*arguments, *sets).code == 0
    first = (tmp_path / "i.json").read_text()
    order = np.random.default_rng(2).permutation(len(ids))
    np.savez(tmp_path / "v.npz", ids=np.array(ids)[order], vectors=values[order])
    assert harness(*arguments, "--set", f"tiger.semantic.vectors={shlex.quote(str(tmp_path / 'v.npz'))}").code == 0
    assert (tmp_path / "i.json").read_text() == first
