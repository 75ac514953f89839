"""Executors of the runs of a grid: this process, or several subprocesses on this machine.

`harness.experiments.scheduler` decides which runs start; the executor of a cluster is in `dask_cluster`.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from harness.experiments.subprocess_run import PATIENCE, RunOutcome, RunProcess, Task
from harness.protocol.context import Reporter

POLL = 1.0  # seconds
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Note = Callable[[str], None]
Ended = list[tuple[Task, RunOutcome]]


class Executor(Protocol):
    """Executes tasks and reports their outcomes. It logs itself when a task starts."""

    elsewhere: bool  # whether tasks may run on other machines

    def session(self, root: Path) -> AbstractContextManager[None]:
        """The block in which tasks are executed, with results under `root`. An error in it, Ctrl-C included, stops the
        running tasks; each keeps its checkpoint."""
        ...

    def has_capacity(self) -> bool:
        """Whether one more task can be taken now."""
        ...

    def start(self, task: Task) -> None:
        """Takes a task."""
        ...

    def ended(self) -> Ended:
        """The tasks that have ended since the last call; waits a moment for one."""
        ...


class SerialExecutor:
    """One task after the other in this process; `reporter` shows the progress."""

    elsewhere = False

    def __init__(self, reporter: Callable[[], AbstractContextManager[Reporter]], note: Note) -> None:
        self._reporter, self._note = reporter, note
        self._ended: Ended = []

    def session(self, root: Path) -> AbstractContextManager[None]:
        return nullcontext()

    def has_capacity(self) -> bool:
        return not self._ended

    def start(self, task: Task) -> None:
        self._note(f"started: {task.name}")
        try:
            with self._reporter() as reporter:
                task.make(reporter, self._note)
            self._ended.append((task, RunOutcome()))
        except Exception as error:
            self._ended.append((task, RunOutcome.of(error)))

    def ended(self) -> Ended:
        current_ended, self._ended = self._ended, []
        return current_ended


class ProcessExecutor:
    """At most `workers` tasks in parallel, each in a process of its own, so that a crash affects nothing else."""

    elsewhere = False

    def __init__(self, workers: int, note: Note) -> None:
        self._workers, self._note = workers, note
        self._running: dict[int, tuple[Task, RunProcess]] = {}
        self._over: SimpleQueue[int] = SimpleQueue()
        self._started = 0

    @contextmanager
    def session(self, root: Path) -> Iterator[None]:
        with _shared_cores(self._workers):
            try:
                yield
            except BaseException:
                stop([process for _, process in self._running.values()])
                raise

    def has_capacity(self) -> bool:
        return len(self._running) < self._workers

    def start(self, task: Task) -> None:
        number, process = self._started, RunProcess(pickle.dumps(task))
        self._started += 1
        self._running[number] = (task, process)
        Thread(target=lambda: (process.wait(), self._over.put(number)), daemon=True).start()
        self._note(f"started: {task.name}")

    def ended(self) -> Ended:
        with suppress(Empty):
            task, process = self._running.pop(self._over.get(timeout=POLL))
            return [(task, process.ending())]
        return []


def stop(processes: list[RunProcess]) -> None:
    """Interrupts all processes at once, and waits until each has saved its checkpoint."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.stop(max(0.0, deadline - time.monotonic()))


@contextmanager
def _shared_cores(workers: int) -> Iterator[None]:
    """Processes started in the block share the machine's cores, unless the environment sets the number of threads."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    names = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(names, share))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
