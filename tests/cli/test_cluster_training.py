"""EAGER-LLM's own training on a Dask cluster that loses a machine; and the cells that only waited on the lost one."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from eager.method import EagerLLM
from harness.core import timer
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData
from harness.registry import MODELS
from harness.store.event_log import read_events
from tests.cli.conftest import Harness
from tests.cli.test_ablate_cluster import events, folders, grid, held, table
from tests.experiments.clusters import DaskCluster, dask_cluster, kill
from tests.folders import install, lcrec_folder
from tests.waiting import wait_for

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]
STEPS = 150
SETS = {
    "tuning.max_steps": STEPS, "annealing.max_steps": 10, "behavior.epochs": 4, "comprehension.items": 2,
    "backbone.precision": "float32",
}  # fmt: skip


class Often(EagerLLM):
    """EAGER-LLM that keeps its state behind every step, and says who makes it."""

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        assert context.checkpoint is not None
        timer.KEEP_SECONDS = 0.0
        (context.checkpoint / "made-by.json").write_text(json.dumps([os.getppid(), os.getpid()]))
        super()._fit(data, context)


ENTRY = next(entry for entry in MODELS if entry.name == "eager-llm")
OFTEN = replace(ENTRY, name="often", target="tests.cli.test_cluster_training:Often")


def steps(folder: Path) -> list[list[int]]:
    """The steps of stage 1 that each session of a run logged."""
    result: list[list[int]] = []
    for event in read_events(folder / "log.jsonl"):
        if event.get("event") == "session":
            result.append([])
        if event.get("stage") == "alignment" and "step" in event:
            result[-1].append(int(event["step"]))
    return result


def machine_lost(cluster: DaskCluster, said: list[str]) -> None:
    """Power off: a worker and what it has started go without a word, in the middle of stage 1."""

    def caught() -> bool:
        for folder in folders("often"):
            if any(45 <= step < STEPS - 45 for session in steps(folder) for step in session[-1:]):
                with suppress(OSError, psutil.NoSuchProcess):
                    worker, itself = json.loads((folder / "checkpoint/made-by.json").read_text())
                    with held(itself):  # it shall not hear that its worker is gone
                        if steps(folder)[-1][-1] >= STEPS - 45:
                            continue
                        (missing,) = [process for process in cluster.started if os.getpgid(worker) == process.pid]
                        kill(missing)
                        os.kill(itself, signal.SIGKILL)
                        said.append(folder.name)
                        return True
        return False

    wait_for(caught, "a run in the middle of stage 1")


def meanwhile(work: Callable[..., None], *value: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=value)
    thread.start()
    return thread


def test_a_machine_lost_in_the_middle_of_training(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "site", often="tests.cli.test_cluster_training:OFTEN")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(timer, "KEEP_SECONDS", timer.KEEP_SECONDS)  # put back behind the runs in this process
    data = lcrec_folder(tmp_path / "words" / "toy")
    sets = [f"--set=eager.{key}={value}" for key, value in SETS.items()]
    arguments = ("ablate", "often", "-d", str(data), "--profile", "smoke", *sets, "--format", "csv")
    arguments += ("--grid", grid('[changes."no contrast"]\neager.contrast.semantic = 0\neager.contrast.behavior = 0\n'))
    with dask_cluster(tmp_path / "dask") as cluster:
        for _ in range(2):
            cluster.worker()
        message: list[str] = []
        killer = meanwhile(machine_lost, cluster, message)
        done = harness(*arguments, "--scheduler", cluster.address)
        killer.join()
    assert done.code == 0 and done.err.count("its worker was lost, made again") == 1 and "failed" not in done.err, (
        done.err
    )
    result = {folder.name: steps(folder) for folder in folders("often")}
    assert len(result) == 2 and {name: len(sessions) for name, sessions in result.items()} == {
        name: 2 if name == message[0] else 1 for name in result
    }
    first, second = result[message[0]]
    assert first[0] == 20 and 45 <= first[-1] <= second[0] and second[-1] == STEPS, "it did not go on where it was lost"
    # a step that was logged, but not yet kept, is made again
    assert sorted({*first, *second}) == next(sessions[0] for name, sessions in result.items() if name != message[0])
    alone = harness(*arguments, "--results", "alone")
    assert alone.code == 0 and table(alone.out) == table(done.out) and len(table(done.out)) == 2
    assert [folder.name for folder in folders("often", "alone")] == list(result)


def test_a_cell_that_waited_on_a_lost_worker_is_not_given_up(
    harness: Harness, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that gives up what one worker died over. It hands a worker of one thread two tasks; one had begun."""
    install(monkeypatch, tmp_path / "site", steady="tests.cli.test_ablate_cluster:STEADY")
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    monkeypatch.setenv("STEADY", "20")
    with dask_cluster(tmp_path / "dask") as cluster:

        def lose() -> None:
            asked = "ablations/steady/toy/*/*.yaml"
            wait_for(lambda: len(list(Path("results").glob(asked))) == 4, "four tasks that wait for a worker")
            first = cluster.worker("--no-nanny")
            wait_for(lambda: list(Path("results").glob("runs/steady/toy/seed*/checkpoint/steps.json")) != [], "a run")
            monkeypatch.setenv("STEADY", "0")
            kill(first)
            cluster.worker("--no-nanny")

        loser = meanwhile(lose)
        arguments = ("ablate", "steady", "-d", toy, "--grid", grid("[product]\nfake.size = [4, 5, 6]\n"))
        done = harness(*arguments, "--scheduler", cluster.address)
        loser.join()
    assert done.err.count("failed: ") == 1 and "failed: base, seed 1: 1 workers died while they made it" in done.err
    assert done.err.count("workers died before they made it, made again") == 1, done.err
    assert done.err.count("done: ") == 3 and len([f for f in folders("steady") if events(f, "measured")]) == 3
