"""`harness leaderboard` from the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from harness.reports.lead_tests import DAGGER
from harness.runs.job import command_of
from harness.store.run_store import Store
from tests.cli.conftest import Harness


@pytest.mark.parametrize(
    ("options", "tested"), [(["-d", "toy"], True), ([], False), (["--test"], True), (["-d", "toy", "--no-test"], False)]
)
def test_leads_are_tested_with_a_data_set(harness: Harness, toy: str, options: list[str], tested: bool) -> None:
    for model in ("markov", "mostpop"):
        harness("run", model, "-d", toy)
    options = [toy if option == "toy" else option for option in options]
    done = harness("leaderboard", *options, "--format", "markdown")
    assert done.code == 0 and (DAGGER in done.out) == tested, done.err


@pytest.mark.parametrize(
    "message",
    [
        "",
        "--profile smoke",
        "--set fake.rate=0.25 --set fake.layer.width=9 --set fake.levels=[5,6]",
        "--set fake.peek=true --profile smoke --set protocol.max_history=7",
        "--set protocol.exclude_history=true --seed 4 --order file",
    ],
)
def test_the_command_makes_the_same_run(harness: Harness, toy: str, message: str) -> None:
    """Nothing is in it that the profile says already."""
    first = json.loads(harness("run", "fake", "-d", toy, *shlex.split(message), "--json").out)
    (run,) = Store(Path("results")).query()
    messages = command_of([run])
    assert messages.startswith("harness run fake -d toy --profile ")
    repeated = [toy if part == "toy" else part for part in shlex.split(messages)[1:]]
    done = harness(*repeated, "--json")
    assert json.loads(done.out)["run_id"] == first["run_id"], (messages, done.err)
    assert messages.count("--set") == message.count("--set"), "nothing that the profile says already"


def test_seeds_stand_together(harness: Harness, toy: str) -> None:
    harness("run", "fake", "-d", toy, "--seed", "2", "--seed", "5")
    assert "--seed 2 --seed 5" in command_of(Store(Path("results")).query())


def test_the_column_of_commands(harness: Harness, toy: str) -> None:
    harness("run", "markov", "-d", toy)
    done = harness("leaderboard", "-d", toy, "--columns", "command", "--format", "markdown")
    assert "| harness run markov -d toy --profile cpu --seed 1 |" in done.out
    (board,) = json.loads(harness("leaderboard", "--columns", "command", "--json").out)
    assert board["rows"][0]["command"] == "harness run markov -d toy --profile cpu --seed 1"


def test_a_folder_whose_order_is_that_of_its_lines(harness: Harness, toy: str) -> None:
    """Its timestamps state none: boards and pages read what is stored, codes are made and looked at with --order."""
    rows = Path(toy, "interactions.csv").read_text().splitlines()
    message = "\n".join([rows[0], *(row.rpartition(",")[0] + ",5" for row in rows[1:])])
    Path(toy, "interactions.csv").write_text(message + "\n")
    for model in ("markov", "mostpop"):
        assert "say --order file" in harness("run", model, "-d", toy).err
        assert harness("run", model, "-d", toy, "--order", "file").code == 0
    board = harness("leaderboard", "-d", toy, "--format", "markdown")
    assert board.code == 0 and DAGGER in board.out, board.err
    assert harness("compare", "markov", "mostpop", "-d", toy).code == 0
    assert harness("report", "-d", toy).code == 0
    quick = ("--profile", "smoke", "--set", "eager.index.sources=[behavior]", "--set", "eager.behavior.epochs=1")
    assert "say --order file" in harness("index", "build", "-d", toy, "-o", "x.json", *quick).err
    assert harness("index", "build", "-d", toy, "-o", "x.json", "--order", "file", *quick).code == 0
    assert "say --order file" in harness("index", "inspect", "x.json", "-d", toy).err
    assert harness("index", "inspect", "x.json", "-d", toy, "--order", "file").code == 0


def test_published_rows_beside_tests_and_commands(harness: Harness, toy: str) -> None:
    for model in ("markov", "mostpop"):
        harness("run", model, "-d", toy)
    folder = Path("results/published")
    folder.mkdir()
    (folder / "toy.csv").write_text(
        "dataset,release,method,metric,value,hand,source\ntoy,not stated,Best,ndcg@10,0.99,second,Table 9\n"
    )
    options = ("--published", "--columns", "quality,command", "--format", "json")
    board, *rest = json.loads(harness("leaderboard", "-d", toy, *options).out)
    assert [row["model"] for row in board["rows"]] == ["markov", "mostpop", "Best"] and not rest
    assert [bool(row.get("command")) for row in board["rows"]] == [True, True, False]
    table = harness("leaderboard", "-d", "toy", "--published", "--format", "markdown").out
    (best,) = (line for line in table.splitlines() if "Best" in line)
    assert DAGGER in table and DAGGER not in best and "**" not in best and "second-hand: Table 9" in best
