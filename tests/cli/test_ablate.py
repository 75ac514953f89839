"""`harness ablate` from the command line: plan, table, formats, failures, and wrong input."""

from __future__ import annotations

import csv
import io
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.store.event_log import read_events
from tests.cli.conftest import Harness, start
from tests.fakes import Fake
from tests.folders import FAKE, install
from tests.waiting import PATIENCE, wait_for

GRID = """
about = "sizes"
[changes."bad | one"]
fake.layer.width = 9
[changes.same]
fake.size = 3
"""


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A grid whose first row ranks the wrong way round, and whose second is the base."""
    recommend = Fake._recommend

    def turned(self: Fake, requests: Any, k: int, context: Any) -> Any:
        lists = recommend(self, requests, self.n, context)
        items = lists.items[:, ::-1] if self.config.layer.width == 9 else lists.items
        return type(lists)(lists.cases, items[:, :k], lists.scores[:, :k])

    monkeypatch.setattr(Fake, "_recommend", turned)
    (tmp_path / "g.toml").write_text(GRID)
    return str(tmp_path / "g.toml")


def test_plan_then_table(harness: Harness, toy: str, grid: str) -> None:
    arguments = ("ablate", "fake", "-d", toy, "--grid", grid, "--seeds", "1,2")
    result = harness(*arguments, "--plan")
    assert result.code == 0 and result.out == "" and "bad | one: fake.layer.width=9 (seed 1 to be made" in result.err
    assert "6 runs on toy, 0 of them stored" in result.err and not Path("results").exists()
    planned = json.loads(harness(*arguments, "--plan", "--json").out)
    assert [run["state"] for run in planned["runs"]] == ["new"] * 6 and not Path("results").exists()
    done = harness(*arguments)
    assert done.code == 0 and "a library that prints" not in done.out, done.err
    rows = {line.split("  ")[0].strip(): line for line in done.out.splitlines()}
    assert "*" in rows["bad | one"] and "<0.001" in rows["bad | one"] and "the same runs as base" in rows["same"]
    repeated = harness(*arguments)
    assert repeated.out == done.out and "6 of them stored" in repeated.err


def test_components_of_variance(harness: Harness, toy: str, grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose seed turns the lists of a part of the users around: its variance is that of the means."""
    ranked = Fake._recommend

    def seeded(self: Fake, requests: Any, k: int, context: Any) -> Any:
        lists = ranked(self, requests, k, context)
        items = np.where((lists.cases % 5 < context.seed)[:, None], lists.items[:, ::-1], lists.items)
        return type(lists)(lists.cases, items, lists.scores)

    monkeypatch.setattr(Fake, "_recommend", seeded)
    arguments = ("ablate", "fake", "-d", toy, "--factor", "model_seed", "--seeds", "1,2,3")
    document = json.loads(harness(*arguments, "--json").out)
    runs = [json.loads(harness("run", "fake", "-d", toy, "--seed", str(seed), "--json").out) for seed in (1, 2, 3)]
    means = [run["metrics"]["test"]["ndcg@10"] for run in runs]
    (model, users) = document["components"]
    assert model["variance"] == pytest.approx(np.var(means, ddof=1)) and model["variance"] > 0
    assert (document["users"], users["source"], document["mean"]) == (60, "users", pytest.approx(np.mean(means)))
    assert document["least_seeds"] == pytest.approx(2.8016 * (2 * model["variance"]) ** 0.5, rel=1e-3)
    table = harness(*arguments)
    assert table.code == 0 and "seed of the model" in table.out and "Least difference" in table.out
    assert harness(*arguments, "--format", "csv").out.startswith("source,variance,low,high,freedom,deviation")
    for extra, message in ((("--grid", grid), "two plans of runs"), (("--factor", "x"), "are no factors")):
        wrong = harness(*arguments, *extra)
        assert wrong.code == 2 and message in wrong.err
    assert "has no tokenizer" in harness(*arguments[:4], "--factor", "tokenizer_seed,model_seed", "--seeds", "1,2").err


def test_a_grid_under_global_time(harness: Harness, toy: str, grid: str) -> None:
    """The toy's times are 0 to 7 for every user."""
    arguments = (
        "ablate",
        "fake",
        "-d",
        toy,
        "--grid",
        grid,
        "--protocol",
        "global-time",
        "--set",
        "protocol.cut=[5, 6]",
    )
    done = harness(*arguments)
    assert done.code == 0 and "global-time/1" in done.out, done.err
    board = json.loads(harness("leaderboard", "-d", toy, "--protocol", "global-time", "--format", "json").out)
    assert [entry["protocol"]["cut"] for entry in board] == [[5.0, 6.0]] and len(board[0]["rows"]) == 2
    assert "0 of them stored" in done.err


def test_formats_and_files(harness: Harness, toy: str, grid: str, tmp_path: Path) -> None:
    arguments = ("ablate", "fake", "-d", toy, "--grid", grid)
    document = json.loads(harness(*arguments, "--json").out)
    base, bad, same = document["rows"]
    assert base["difference"] is None and same["difference"] is None and document["metric"] == "ndcg@10"
    assert bad["difference"] == pytest.approx(bad["ndcg@10"] - base["ndcg@10"]) and bad["significant"]
    assert bad["p_corrected"] == bad["p"]  # a family of one
    assert bad["low"] - 1e-9 <= bad["difference"] <= bad["high"] + 1e-9
    rows = list(csv.DictReader(io.StringIO(harness(*arguments, "--format", "csv").out)))
    assert float(rows[1]["difference"]) == bad["difference"] and rows[1]["run_ids"] == bad["run_ids"][0]
    assert r"| bad \| one | 1 |" in harness(*arguments, "--format", "markdown").out
    for form, message in (("latex", r"\toprule"), ("html", '<td class="left">bad | one</td>')):
        path = tmp_path / f"t.{form}"
        done = harness(*arguments, "--format", form, "-o", str(path))
        assert done.out == "" and message in path.read_text() and f"written to {path}" in done.err
    by = json.loads(harness(*arguments, "--json", "--metric", "mrr@10").out)
    assert by["metric"] == "mrr@10" and set(by["rows"][0]) > {"mrr@10", "ndcg@10", "recall@10"}


def test_failures_are_rows(harness: Harness, toy: str, grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fake._fit

    def some(self: Fake, *rest: Any) -> None:
        if self.config.layer.width == 9:
            raise RuntimeError("no memory")
        fit(self, *rest)

    monkeypatch.setattr(Fake, "_fit", some)
    done = harness("ablate", "fake", "-d", toy, "--grid", grid)
    assert done.code == 0 and "0 of 1" in done.out and "no memory" in done.out and "failed: bad | one" in done.err
    monkeypatch.setattr(Fake, "failure", RuntimeError("never"))
    monkeypatch.setattr(Fake, "_fit", fit)
    none = harness("ablate", "fake", "-d", toy, "--grid", grid, "--seeds", "7")
    assert none.code == 2 and "no run of this grid could be made: RuntimeError: never" in none.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ablate fake -d toy", "fake has no grid of its own"),
        ("ablate fake -d toy --grid g", "unknown grid 'g'; a .yaml file works too"),
        ("ablate fake -d toy --grid none.toml", "none.toml: cannot be read"),
        ("ablate eager-llm -d toy --grid papr", "unknown grid 'papr'; did you mean paper?"),
        ("ablate fake -d toy --seeds 1,b", "'1,b' is not a list of integers"),
        ("ablate fake -d toy --metric ndcg", "unknown metric 'ndcg'"),
        ("ablate fake -d toy --format htm", "unknown format 'htm'"),
        ("ablate fake --grid x.toml", "Missing option"),
        ("ablate fake -d toy --workers 0", "Invalid value for '--workers'"),
        ("ablate fake -d toy --workers 2 --scheduler x:1", "--workers and --scheduler exclude each other"),
        ("ablate fake -d nowhere --scheduler tcp://127.0.0.1:1", "no Dask scheduler answers there"),
        ("ablate fake -d toy --scheduler 127.0.0.1", "no Dask scheduler answers there"),
    ],
)
def test_wrong_input(harness: Harness, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str) -> None:
    monkeypatch.setattr("harness.experiments.dask_cluster.ANSWER", 1.0)
    done = harness(*arguments.split())
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1 and done.out == ""


def test_no_dask(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.experiments.dask_cluster.find_spec", lambda name: None)
    done = harness("ablate", "fake", "-d", "toy", "--scheduler", "tcp://127.0.0.1:1")
    assert done.code == 2 and "needs the package distributed; pip install distributed" in done.err


class Sleeps(Fake):
    """Leaves a mark, then takes long."""

    def _fit(self, *rest: Any) -> None:
        try:
            Path(f"began-{self.config.size}").touch()  # whoever sees it may interrupt
            time.sleep(120)
        except KeyboardInterrupt:
            Path(f"ended-{self.config.size}").touch()
            raise


class Slow(Fake):
    """Takes its time."""

    def _fit(self, *rest: Any) -> None:
        time.sleep(0.7)
        super()._fit(*rest)


SLEEPS = replace(FAKE, name="sleeps", target="tests.cli.test_ablate:Sleeps")
SLOW = replace(FAKE, name="slow", target="tests.cli.test_ablate:Slow")
CODE = """
import signal
from harness.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models above, for other processes."""
    module = "tests.cli.test_ablate"
    install(monkeypatch, tmp_path / "site", sleeps=f"{module}:SLEEPS", slow=f"{module}:SLOW")


COSTS = ("train_seconds", "eval_users_per_second")


def rows(text: str) -> list[dict[str, str]]:
    """A CSV table without what a clock measured."""
    return [{key: value for key, value in row.items() if key not in COSTS} for row in csv.DictReader(io.StringIO(text))]


def sessions() -> dict[str, list[str]]:
    """Of each run in the store, what became of its sessions."""
    messages = ("session", "stopped", "measured")
    logs = {path.parent.name: read_events(path) for path in Path("results").glob("runs/slow/toy/seed*/log.jsonl")}
    return {
        name: [str(event["event"]) for event in log if event.get("event") in messages] for name, log in logs.items()
    }


def finished() -> dict[str, str]:
    """When each run in the store was."""
    records = Path("results").glob("runs/slow/toy/seed*/result.json")
    return {path.parent.name: json.loads(path.read_text())["finished"] for path in records}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_two_commands_make_one_grid_together(toy: str, tmp_path: Path, fresh: bool) -> None:
    """Each run once, by either of them, and both end with the whole table; so with `--fresh`, where all runs were there
    when they began."""
    (tmp_path / "g.toml").write_text("[product]\nfake.size = [4, 5, 6]\nfake.rate = [0.1, 0.2]\n")
    arguments = ("ablate", "slow", "-d", toy, "--grid", "g.toml", "--format", "csv")
    if fresh:
        previous = start(*arguments, code=CODE)
        assert previous.wait(PATIENCE) == 0
    old = finished()
    both = [start(*arguments, *(["--fresh"] if fresh else []), code=CODE) for _ in range(2)]
    message = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], message
    assert rows(message[0][0]) == rows(message[1][0]) and len(rows(message[0][0])) == 7, message
    assert list(sessions().values()) == [["session", "measured"]] * 7, "a run was made twice"
    assert len(finished()) == 7 and not set(old.items()) & set(finished().items())
    (stored,) = Path("results").glob("ablations/slow/toy/*.json")
    assert [run["state"] for run in json.loads(stored.read_text())["runs"]] == ["complete"] * 7


@pytest.mark.nightly
@pytest.mark.usefixtures("installed")
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_one_of_two_commands_is_killed(toy: str, tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text("[product]\nfake.size = [4, 5, 6]\n")
    arguments = ("ablate", "slow", "-d", toy, "--grid", "g.toml", "--format", "csv")
    first, second = (start(*arguments, code=CODE) for _ in range(2))
    wait_for(lambda: len(list(Path("results").glob("runs/slow/toy/seed*/log.jsonl"))) >= 2, "both at work")
    first.kill()
    first.communicate(timeout=PATIENCE)
    out, err = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0 and len(rows(out)) == 4 and {row["seeds"] for row in rows(out)} == {"1"}, err
    assert [messages.count("measured") for messages in sessions().values()] == [1] * 4
    (stored,) = Path("results").glob("ablations/slow/toy/*.json")
    assert [run["state"] for run in json.loads(stored.read_text())["runs"]] == ["complete"] * 4
    assert not list(stored.parent.glob("*.tmp"))


@pytest.mark.nightly
@pytest.mark.usefixtures("installed")
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_the_end_of_the_command_reaches_every_process_which_keep_what_they_had(
    toy: str, tmp_path: Path, how: str
) -> None:
    (tmp_path / "g.toml").write_text("[changes.a]\nfake.size = 5\n[changes.b]\nfake.size = 6\n")
    process = start("ablate", "sleeps", "-d", toy, "--grid", "g.toml", "--workers", "2", code=CODE)
    wait_for(lambda: len(list(tmp_path.glob("began-*"))) == 2 or process.poll() is not None, "two trainings")
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.Signals[how])
    out, err = process.communicate(timeout=PATIENCE)
    if how == "SIGINT":
        assert (process.returncode, out) == (130, "") and "Traceback" not in err and "interrupted" in err, err
    wait_for(lambda: len(list(tmp_path.glob("ended-*"))) == 2, "the end of both")
    assert sorted(path.name for path in tmp_path.glob("*-[0-9]")) == ["began-3", "began-5", "ended-3", "ended-5"]
    assert len(list(Path("results").glob("runs/sleeps/toy/*/checkpoint"))) == 2
    (stored,) = Path("results").glob("ablations/sleeps/toy/*.json")
    assert {run["state"] for run in json.loads(stored.read_text())["runs"]} == {"new"}
