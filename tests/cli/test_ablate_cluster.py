"""`harness ablate --scheduler`: a real Dask cluster on this machine, whose workers come late, go, and are killed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.core.files import write_result_text
from harness.experiments.dask_cluster import Cluster
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData
from harness.store.event_log import read_events
from tests.cli.conftest import Harness, start
from tests.experiments.clusters import DaskCluster, dask_cluster, kill
from tests.fakes import Fake
from tests.folders import FAKE, install
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
TWELVE = "[product]\nfake.size = [4, 5, 6, 7]\n[changes.x]\nfake.layer.width = 9\n"  # and two seeds: 12 runs
COSTS = ("train_seconds", "eval_users_per_second")


class Steady(Fake):
    """Trains `$STEADY` seconds in steps, each kept; its checkpoint names its process and the worker it is made for."""

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        assert context.checkpoint is not None
        state = context.checkpoint / "steps.json"
        first = json.loads(state.read_text())["steps"] if state.exists() else 0
        context.event(event="from", step=first)
        for step in range(first, 20):
            time.sleep(float(os.environ.get("STEADY", 0)) / 20)
            write_result_text(state, json.dumps({"steps": step + 1, "worker": os.getppid(), "itself": os.getpid()}))
        super()._fit(data, context)


class Troubled(Steady):
    """Fails in several ways, by its size."""

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        if self.config.size == 5:
            raise RuntimeError("out of\nmemory")
        mark = context.cache.parent / "killed"
        if self.config.size == 6 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super()._fit(data, context)


STEADY = replace(FAKE, name="steady", target="tests.cli.test_ablate_cluster:Steady")
TROUBLED = replace(FAKE, name="troubled", target="tests.cli.test_ablate_cluster:Troubled")


@pytest.fixture
def cluster(tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DaskCluster]:
    module = "tests.cli.test_ablate_cluster"
    entries = {"fake": "tests.folders:FAKE", "steady": f"{module}:STEADY", "troubled": f"{module}:TROUBLED"}
    install(monkeypatch, tmp_path / "site", **entries)
    with dask_cluster(tmp_path / "dask") as result:
        yield result


def grid(text: str) -> str:
    Path("g.toml").write_text(text)
    return "g.toml"


def folders(model: str, results: str = "results") -> list[Path]:
    return sorted(Path(results).glob(f"runs/{model}/toy/seed*"))


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "log.jsonl") if event.get("event") == kind]


def table(text: str) -> list[dict[str, str]]:
    """The CSV table without what a clock measured."""
    return [{key: value for key, value in row.items() if key not in COSTS} for row in csv.DictReader(io.StringIO(text))]


def kill_half_way(cluster: DaskCluster, said: list[str]) -> None:
    """Kills the worker, nanny and all, whose run is in the middle of its training, once four runs are complete."""
    wait_for(lambda: len(list(Path("results").glob("runs/steady/toy/seed*/result.json"))) >= 4, "half of the grid")

    def caught() -> bool:
        for state in Path("results").glob("runs/steady/toy/seed*/checkpoint/steps.json"):
            with suppress(OSError, psutil.NoSuchProcess), held(json.loads(state.read_text())["itself"]):
                document = json.loads(state.read_text())
                if 3 <= document["steps"] <= 12:
                    (nanny,) = [process for process in cluster.started if os.getpgid(document["worker"]) == process.pid]
                    kill(nanny)
                    said.append(state.parent.parent.name)
                    return True
        return False

    wait_for(caught, "a run in the middle")


@contextmanager
def held(pid: int) -> Iterator[None]:
    """The process stands still for the block: what is read of it holds."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


@pytest.mark.nightly
def test_a_worker_killed_half_way_costs_nothing(
    harness: Harness, toy: str, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("ablate", "steady", "-d", toy, "--grid", grid(TWELVE), "--seeds", "1,2", "--format", "csv")
    monkeypatch.setenv("STEADY", "1")
    for _ in range(2):
        cluster.worker()
    killed: list[str] = []
    killer = threading.Thread(target=kill_half_way, args=(cluster, killed))
    killer.start()
    done = harness(*arguments, "--scheduler", cluster.address)
    killer.join()
    assert done.code == 0 and done.err.count("its worker was lost, made again") == 1, done.err
    assert done.err.count("done: ") == done.err.count("started: ") == len(folders("steady")) == 12, done.err
    sessions = {folder.name: len(events(folder, "session")) for folder in folders("steady")}
    assert sessions == {name: 2 if name == killed[0] else 1 for name in sessions}
    assert all(len(events(folder, "measured")) == 1 for folder in folders("steady")), "a run was made twice"
    first, second = events(Path("results/runs/steady/toy") / killed[0], "from")
    assert first["step"] == 0 and second["step"] >= 3, "it did not go on where it was killed"
    monkeypatch.delenv("STEADY")
    alone = harness(*arguments, "--results", "alone")
    assert alone.code == 0 and table(alone.out) == table(done.out) and len(table(done.out)) == 6
    assert [folder.name for folder in folders("steady", "alone")] == list(sessions)
    repeated = harness(*arguments, "--scheduler", cluster.address)
    assert repeated.out == done.out and "12 of them stored" in repeated.err and "started" not in repeated.err


def come_late(cluster: DaskCluster, patch: pytest.MonkeyPatch, message: str, *options: str) -> threading.Thread:
    """Starts a worker when the command has reported `message`; call it before the command."""
    lacking, look = threading.Event(), Cluster._check_capacity
    patch.setattr(Cluster, "_check_capacity", lambda self: (look(self), message in self._lacking and lacking.set()))

    def start_worker() -> None:
        lacking.wait(PATIENCE)
        cluster.worker(*options)

    result = threading.Thread(target=start_worker)
    result.start()
    return result


FAILS = "[changes.fails]\nfake.size = 5\n"
DIES = "[changes.dies]\nfake.size = 6\n"
AFTER = '[changes.after]\nfake.rate.from_base = "details.model.width"\n'


@pytest.mark.parametrize(
    "rows",
    [FAILS + AFTER, pytest.param(FAILS + DIES + AFTER, marks=pytest.mark.nightly)],
    ids=["fails", "fails and dies"],
)
def test_late_workers_failures_and_what_waits_for_the_base(
    harness: Harness, toy: str, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch, rows: str
) -> None:
    late = come_late(cluster, monkeypatch, "is connected", "--no-nanny")
    arguments = ("ablate", "troubled", "-d", toy, "--grid", grid(rows))
    done = harness(*arguments, "--scheduler", cluster.address, "--json")
    late.join()
    assert done.code == 0 and "no worker is connected; waiting for one" in done.err, done.err
    result = json.loads(next(Path("results").glob("ablations/troubled/toy/*.json")).read_text())["runs"]
    dies = DIES in rows
    assert [run["state"] for run in result] == ["complete", "failed", *["complete"] * (2 if dies else 1)]
    assert result[1]["reason"] == "RuntimeError: out of memory" and "Traceback" in result[1]["trace"]
    assert done.err.count("killed, made again: dies, seed 1") == dies and "failed: fails, seed 1" in done.err
    assert done.err.index("done: base") < done.err.index("started: after")
    assert len(json.loads(done.out)["rows"]) == len(result)


@pytest.mark.nightly
def test_a_run_on_a_gpu_waits_for_a_worker_that_offers_one(
    harness: Harness, toy: str, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = ("ablate", "fake", "-d", toy, "--grid", grid("[changes.a]\nfake.size = 4\n"), "--device", "cuda")
    cluster.worker("--no-nanny")
    card = come_late(cluster, monkeypatch, "offers a GPU", "--no-nanny", "--resources", "GPU=1")
    none = harness(*bare, "--scheduler", cluster.address)
    card.join()
    assert "no worker offers a GPU (dask worker --resources GPU=1); waiting for one" in none.err, none.err
    assert none.code == 2 and "device 'cuda' is not available" in none.err and len(events_of_fake()) == 0
    assert harness(*bare).code == 2, "this machine has no card, and nobody else was asked"


def events_of_fake() -> list[Path]:
    return list(Path("results").glob("runs/fake/toy/*/log.jsonl"))


@pytest.mark.nightly
def test_a_worker_that_leaves_hands_its_run_on(
    harness: Harness, toy: str, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of a batch job's time: SIGTERM, and some seconds later another worker."""
    monkeypatch.setenv("STEADY", "4")
    first = cluster.worker("--no-nanny")

    def leave() -> None:
        wait_for(lambda: list(Path("results").glob("runs/steady/toy/seed*/checkpoint/steps.json")) != [], "a run")
        first.terminate()
        first.wait(PATIENCE)
        monkeypatch.setenv("STEADY", "0")
        cluster.worker("--no-nanny")

    leaver = threading.Thread(target=leave)
    leaver.start()
    arguments = ("ablate", "steady", "-d", toy, "--grid", grid("[changes.a]\nfake.size = 4\n"))
    done = harness(*arguments, "--scheduler", cluster.address)
    leaver.join()
    assert done.code == 0 and "failed" not in done.err and done.err.count("made again") == 1, done.err
    begun = sorted(event["step"] for folder in folders("steady") for event in events(folder, "from"))
    assert len(begun) == 3 and begun[:2] == [0, 0] and begun[2] > 0


@pytest.mark.nightly
def test_a_lost_scheduler_keeps_what_is_done(
    harness: Harness, toy: str, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEADY", "20")
    cluster.worker("--no-nanny")

    def lose() -> None:
        wait_for(lambda: list(Path("results").glob("runs/steady/toy/seed*/checkpoint/steps.json")) != [], "a run")
        kill(cluster.started[0])

    arguments = ("ablate", "steady", "-d", toy, "--grid", grid("[changes.a]\nfake.size = 4\n"))
    loser = threading.Thread(target=lose)
    loser.start()
    done = harness(*arguments, "--scheduler", cluster.address)
    loser.join()
    assert done.code == 2 and done.out == "", done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("harness:")]
    assert "the scheduler was lost" in line and "Traceback" not in done.err
    wait_for(lambda: any(events(folder, "stopped") for folder in folders("steady")), "the end of the orphan")
    monkeypatch.delenv("STEADY")
    repeated = harness(*arguments)
    assert repeated.code == 0 and "resuming the unfinished run" in repeated.err
    assert max(event["step"] for folder in folders("steady") for event in events(folder, "from")) > 0


CODE = """
import signal
from harness.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


@pytest.mark.nightly
def test_ctrl_c_stops_the_workers_runs(toy: str, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEADY", "120")
    cluster.worker("--no-nanny")
    text = grid("[changes.a]\nfake.size = 4\n")
    arguments = ("ablate", "steady", "-d", toy, "--grid", text, "--scheduler", cluster.address)
    process = start(*arguments, code=CODE)
    wait_for(lambda: list(Path("results").glob("runs/steady/toy/seed*/checkpoint/steps.json")) != [], "a run")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "") and "Traceback" not in err and "interrupted" in err, err
    (folder,) = folders("steady")
    (stopped,) = events(folder, "stopped")
    assert stopped["reason"] == "KeyboardInterrupt" and (folder / "checkpoint/steps.json").exists()
    assert not list(Path("results").glob(".ablate-*")) and not list(Path(os.environ["HARNESS_HOME"]).glob(".ablate-*"))


@pytest.mark.nightly
def test_a_worker_of_another_version_is_refused_before_anything_runs(
    harness: Harness, toy: str, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.worker("--no-nanny")
    monkeypatch.setattr("harness.experiments.dask_cluster.PROGRAM", "0.0-other")
    arguments = ("ablate", "fake", "-d", toy, "--grid", grid("[changes.a]\nfake.size = 4\n"))
    done = harness(*arguments, "--scheduler", cluster.address)
    assert done.code == 2 and "runs another version of the program; install the same one there" in done.err, done.err
    assert not list(Path("results").glob("runs/fake/toy/*"))
