"""What a cluster's scheduler says of a task, and what is made of it: by a scheduler that says what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from distributed.scheduler import KilledWorker

from harness.errors import InputError
from harness.experiments.dask_cluster import Cluster
from harness.experiments.subprocess_run import Command, RunOutcome, Task
from harness.store.record import RunKey

DONE = {"reason": "", "trace": "", "killed": False}
ANSWER_LOST = "its worker was lost with its answer, made again: a"
KILLED = KilledWorker("a", cast(Any, None), 3)


@dataclass
class Future:
    """One that is over; `said` is its result, or what asking for it raises."""

    said: Any
    status: str = "finished"

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)

    def result(self, timeout: float) -> Any:
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


@dataclass
class Scheduler:
    """A client whose tasks end as they are told to, one after the other; `begun` says how often each begins."""

    futures: list[Future]
    begun: int = 1
    status: str = "running"
    submitted: list[str] = field(default_factory=list)
    cluster: Any = None

    def submit(self, *value: Any, key: str, **manner: Any) -> Future:
        self.submitted.append(key)
        for _ in range(self.begun):
            self.cluster._events.put({"began": key, "worker": "w"})
        return self.futures.pop(0)


def run_task(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> tuple[list[RunOutcome], list[str]]:
    """What became of one task, and what was said of it."""
    notes: list[str] = []
    monkeypatch.setattr(Cluster, "_check_capacity", lambda self: None)
    cluster = scheduler.cluster = Cluster(cast(Any, scheduler), "--scheduler x", notes.append)
    monkeypatch.setattr(Task, "command", lambda self: Command((), "", "", ""))
    cluster.start(Task("a", cast(Any, SimpleNamespace(device="cpu")), RunKey("m", "d", "r"), Path(), Path()))
    endings: list[RunOutcome] = []
    for _ in range(100):
        endings += [ending for _, ending in cluster.ended()]
        if endings:
            break
    return endings, [note for note in notes if "made again" in note]


@pytest.mark.parametrize(
    "first",
    [
        Future(None, "lost"),  # told of it when its worker was already gone
        Future(None, "pending"),  # and when it was being made again for that
        Future(TimeoutError()),  # or the worker went, or stood still, while it was asked for the answer
        Future(ConnectionError("closed")),
    ],
)
def test_an_answer_that_dies_with_its_worker_is_asked_for_again(first: Future, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler([first, Future(DONE)])
    endings, notes = run_task(scheduler, monkeypatch)
    assert endings == [RunOutcome()] and notes == [ANSWER_LOST] and len(set(scheduler.submitted)) == 2


@pytest.mark.parametrize("future", [Future(DONE, "cancelled"), Future(TimeoutError())])
def test_a_lost_scheduler_is_told_from_a_lost_worker(future: Future, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler([future], status="running" if future.status == "cancelled" else "closed")
    with pytest.raises(InputError, match="the scheduler was lost, or forgot the runs"):
        run_task(scheduler, monkeypatch)


def test_workers_that_died_before_a_task_began_are_not_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask gives a task up behind four deaths of workers that it was handed to, begun or not."""
    scheduler = Scheduler([Future(KILLED, "error"), Future(KILLED, "error"), Future(DONE)], begun=0)
    endings, notes = run_task(scheduler, monkeypatch)
    assert endings == [RunOutcome()] and notes == ["workers died before they made it, made again: a"] * 2


@pytest.mark.parametrize(
    ("begun", "rounds", "reason"),
    [
        (4, 1, "4 workers died while they made it"),
        (2, 2, "4 workers died while they made it"),
        (3, 2, "6 workers died while they made it"),
        (0, 4, "16 workers died that had it, 0 of them while they made it"),
    ],
)
def test_deaths_under_a_task_end_it_at_last(
    begun: int, rounds: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler([Future(KILLED, "error")] * 9, begun=begun)
    endings, _ = run_task(scheduler, monkeypatch)
    assert endings == [RunOutcome(reason)] and len(scheduler.submitted) == rounds


def test_workers_that_cannot_take_a_task_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: dict[str, Any] = {}
    scheduler = SimpleNamespace(identity=None)
    client = SimpleNamespace(status="running", scheduler=scheduler, sync=lambda _: {"workers": workers})
    notes: list[str] = []
    cluster = Cluster(cast(Any, client), "--scheduler x", notes.append)
    job = cast(Any, SimpleNamespace(device="cuda"))
    cluster._running["a"] = Task("a", job, RunKey("m", "d", "r"), Path(), Path(), Path()), cast(Any, None)
    for resources in (None, {}, {}, {"GPU": 1.0}, {"GPU": 1.0}):
        if resources is not None:
            workers["w"] = {"resources": resources}
        cluster._check_capacity()
    assert notes == [
        "--scheduler x: no worker is connected; waiting for one",
        "--scheduler x: no worker offers a GPU (dask worker --resources GPU=1); waiting for one",
        "--scheduler x: 1 workers",
    ]
