"""Schedules the runs of a grid (which may start, which are retried, what is recorded) on an executor.

Executors here: this process, or several subprocesses on this machine; that of a cluster is in `dask_cluster`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from harness.errors import InputError
from harness.experiments.ablation import Ablation, GridRun
from harness.experiments.subprocess_run import PATIENCE, RunOutcome, RunProcess, Task
from harness.protocol.context import Reporter
from harness.store.run_store import Supersedes

POLL = 1.0  # seconds
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Note = Callable[[str], None]
Ended = list[tuple[Task, RunOutcome]]
TRIES = 2  # attempts of a run whose process is killed
LATE = 70.0  # seconds: NFS caches the absence of a file for a minute (`acdirmax`)


class Executor(Protocol):
    """Executes tasks and reports their outcomes. It logs itself when a task starts."""

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
        number, process = self._started, RunProcess(task.command())
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


def run_grid(under_way: Ablation, executor: Executor, *, fresh: bool = False, note: Note = lambda line: None) -> None:
    """Makes every run of the grid that is not complete yet (with `fresh`, every run). A failed run is recorded with its
    reason and does not stop the others. Raises `InputError` where the executor is lost; complete runs are kept."""
    under_way.save()
    course = _GridScheduler(under_way, fresh, note, list(under_way.slots), _finished(under_way))
    with executor.session(under_way.store.root):
        while course.waiting or course.running:
            while executor.has_capacity() and (task := course.next()) is not None:
                executor.start(task)
            for task, ending in executor.ended() if course.running else ():
                course.close(task, ending)
    under_way.refresh()


def _finished(under_way: Ablation) -> dict[str, datetime | None]:
    """When each complete run of the grid was finished, by run id; None: there is no complete one."""
    stored = {slot.run_id: under_way.stored(slot) for slot in under_way.slots if slot.run_id is not None}
    return {run_id: run.record.finished if run else None for run_id, run in stored.items()}


@dataclass
class _GridScheduler:
    """The state of a grid. `before`: when each run that was complete at the start was finished; `running`: the runs in
    progress by their task's name; `made`: the runs that were started; `tries`: how often each was."""

    under_way: Ablation
    fresh: bool
    note: Note
    waiting: list[GridRun]
    before: dict[str, datetime | None]
    running: dict[str, GridRun] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    tries: dict[str, int] = field(default_factory=dict)

    def next(self) -> Task | None:
        """The next task that may start; runs without one are recorded on the way."""
        while (slot := self._free()) is not None:
            self.waiting.remove(slot)
            if (task := self._task(slot)) is not None:
                return task
        return None

    def close(self, task: Task, ending: RunOutcome) -> None:
        """Records the outcome of a task, or schedules it again."""
        slot = self.running.pop(task.name)
        if ending.killed and self.tries[task.name] < TRIES:
            self.note(f"killed, made again: {slot.name}")
            self.made.discard(task.key.run_id)
            self.waiting.insert(0, slot)
        elif ending.reason:
            self._fail(slot, ending.reason, ending.trace)
        elif not self._seen(slot):
            self._fail(slot, f"it was made, but {self.under_way.store.root} here does not show it")
        else:
            self.under_way.record(replace(slot, state="complete", reason="", trace=""))
            remaining = len(self.waiting) + len(self.running)
            self.note(f"done: {slot.name}{f', {remaining} to go' if remaining else ''}")

    def _seen(self, slot: GridRun) -> bool:
        """Whether the run is in the store: a network file system may show the files of another machine late."""
        deadline = time.monotonic() + LATE
        while self.under_way.stored(slot) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _free(self) -> GridRun | None:
        """A run whose base is not pending and that is not being made for another row; preferably one that no other
        command is making."""
        base = self.under_way.grid.cells[0].name
        pending = {slot.seed for slot in (*self.waiting, *self.running.values()) if slot.cell == base}
        busy = {slot.run_id for slot in self.running.values()}
        first = None
        for slot in self.waiting:
            early = self.under_way.cell(slot.cell).needs_base and slot.seed in pending
            if not early and (slot.run_id is None or slot.run_id not in busy):
                if not self.under_way.being_made(slot):
                    return slot
                first = first or slot
        return first

    def _task(self, slot: GridRun) -> Task | None:
        """None where there is nothing to do: the run is complete, it was made as another row's run, or it needs a run
        of the base that failed (which is recorded)."""
        under_way = self.under_way
        try:
            slot, job = under_way.resolve(slot)
        except InputError as error:
            return self._fail(slot, str(error))
        if job is None:
            return self._fail(slot, f"{under_way.grid.cells[0].name}, seed {slot.seed} is not there")
        key, stored = under_way.key(job), under_way.stored(slot)
        replaces = self.before.setdefault(key.run_id, stored.record.finished if stored else None)
        is_requested = stored is None or (self.fresh and Supersedes(replaces).is_current(stored))
        if key.run_id in self.made or not is_requested:
            if stored is None:
                slot = replace(slot, state="failed", reason="the same run as a row that failed")
            under_way.record(slot)
            return None
        self.made.add(key.run_id)
        self.running[slot.name] = slot
        self.tries[slot.name] = self.tries.get(slot.name, 0) + 1
        root, folder = under_way.store.root.resolve(), under_way.path.with_suffix("").resolve()
        return Task(slot.name, job, key, root, folder, self.fresh, replaces)

    def _fail(self, slot: GridRun, reason: str, trace: str = "") -> None:
        self.under_way.record(replace(slot, state="failed", reason=reason, trace=trace))
        self.note(f"failed: {slot.name}: {reason}")
