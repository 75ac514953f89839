"""Makes the runs of an ablation, one after the other here, or by several processes, one run each.

Every run has a process of its own, so its memory is its own too and a crash takes nothing else down; one whose process
was killed is made again once. Interrupted, each process keeps what its run needs to go on.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.jobs.ablation import Ablation, Slot
from harness.jobs.execute import execute
from harness.jobs.job import Job
from harness.protocol.context import Reporter
from harness.store.runs import Store

PATIENCE = 60.0  # seconds that an interrupted process has to keep its state
TRIES = 2  # of a run whose process is killed
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Note = Callable[[str], None]


@dataclass(frozen=True)
class Manner:
    """How the runs are made."""

    workers: int = 1
    fresh: bool = False
    note: Note = lambda line: None


def conduct(under_way: Ablation, manner: Manner, reporter: Callable[[], AbstractContextManager[Reporter]]) -> None:
    """Makes every run of the grid that is not complete yet (with `fresh`, every run). What cannot be made is taken down
    with its reason. `reporter` shows the progress of a run that is made here."""
    under_way.save()
    if manner.workers == 1:
        _one_by_one(under_way, manner, reporter)
    else:
        _side_by_side(under_way, manner)


def _one_by_one(under_way: Ablation, manner: Manner, reporter: Callable[[], AbstractContextManager[Reporter]]) -> None:
    made: set[str | None] = set()
    for number, slot in enumerate(list(under_way.slots), start=1):
        job, slot = _ready(under_way, slot, made, manner)
        if job is None:
            continue
        manner.note(f"{number}/{len(under_way.slots)} {slot.name}")
        try:
            with reporter() as shown:
                execute(job, under_way.store, fresh=manner.fresh, reporter=shown, note=manner.note)
            under_way.settle(replace(slot, state="complete", reason="", trace=""))
        except Exception as error:
            _failed(under_way, slot, *_said(error), manner)
        made.add(slot.run_id)


def _ready(under_way: Ablation, slot: Slot, made: set[str | None], manner: Manner) -> tuple[Job | None, Slot]:
    """The job of a slot, None where there is nothing to do: it is complete, it was made as another row's run, or it
    needs a run of the base that failed (which is taken down)."""
    try:
        slot, job = under_way.placed(slot)
    except InputError as error:
        return _failed(under_way, slot, str(error), "", manner)
    if job is None:
        return _failed(under_way, slot, f"{under_way.grid.cells[0].name}, seed {slot.seed} is not there", "", manner)
    if slot.run_id in made or (slot.state == "complete" and not manner.fresh):
        if slot.state != "complete":
            slot = replace(slot, state="failed", reason="the same run as a row that failed")
        under_way.settle(slot)
        return None, slot
    return job, slot


def _failed(under_way: Ablation, slot: Slot, reason: str, trace: str, manner: Manner) -> tuple[None, Slot]:
    slot = replace(slot, state="failed", reason=reason, trace=trace)
    under_way.settle(slot)
    manner.note(f"failed: {slot.name}: {reason}")
    return None, slot


def _said(error: BaseException) -> tuple[str, str]:
    """The reason in one line, and the traceback of what is no wrong input."""
    if isinstance(error, InputError):
        return str(error), ""
    line = " ".join(str(error).split())
    return f"{type(error).__name__}: {line}", "".join(traceback.format_exception(error))


def _side_by_side(under_way: Ablation, manner: Manner) -> None:
    waiting, made, tries = list(under_way.slots), set[str | None](), dict[tuple[str, int], int]()
    running: dict[int, _Worker] = {}
    numbers = count()
    with _shared_cores(manner.workers):
        try:
            while waiting or running:
                while (slot := _next(under_way, waiting, running, manner.workers)) is not None:
                    waiting.remove(slot)
                    job, placed = _ready(under_way, slot, made, manner)
                    if job is not None:
                        made.add(placed.run_id)
                        running[next(numbers)] = _Worker.start(placed, job, under_way.store, manner.fresh)
                        tries[slot.cell, slot.seed] = tries.get((slot.cell, slot.seed), 0) + 1
                        manner.note(f"started: {placed.name}")
                for number in _ended(running):
                    worker = running.pop(number)
                    again = _close(under_way, worker, tries[worker.slot.cell, worker.slot.seed] < TRIES, manner)
                    if again:
                        made.discard(worker.slot.run_id)
                        waiting.insert(0, worker.slot)
        except BaseException:
            for worker in running.values():
                worker.interrupt()
            raise


def _next(under_way: Ablation, waiting: list[Slot], running: dict[int, _Worker], workers: int) -> Slot | None:
    """A slot that may start now: a worker is free, its base is not still being made, nor the same run."""
    if len(running) >= workers:
        return None
    base = under_way.grid.cells[0].name
    pending = {slot.seed for slot in waiting if slot.cell == base}
    pending |= {worker.slot.seed for worker in running.values() if worker.slot.cell == base}
    busy = {worker.slot.run_id for worker in running.values()}
    for slot in waiting:
        early = under_way.cell(slot.cell).waits and slot.seed in pending
        if not early and (slot.run_id is None or slot.run_id not in busy):
            return slot
    return None


def _close(under_way: Ablation, worker: _Worker, again: bool, manner: Manner) -> bool:
    """Takes down what became of a worker's run; whether it is to be made again."""
    told = worker.told()
    if told == DONE:
        under_way.settle(replace(worker.slot, state="complete", reason="", trace=""))
        manner.note(f"done: {worker.slot.name}")
    elif told is None and again:
        manner.note(f"killed, made again: {worker.slot.name}")
        return True
    else:
        reason, trace = told or (f"its process ended with code {worker.process.exitcode}", "")
        _failed(under_way, worker.slot, reason, trace, manner)
    return False


DONE = ("", "")


@dataclass(frozen=True)
class _Worker:
    """One process and its run."""

    slot: Slot
    process: BaseProcess
    pipe: Any

    @classmethod
    def start(cls, slot: Slot, job: Job, store: Store, fresh: bool) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(job, store.root, fresh, theirs), name=slot.name)
        process.start()
        theirs.close()
        return cls(slot, process, ours)

    def told(self) -> tuple[str, str] | None:
        """`DONE`, or a reason and a traceback; None where the process ended without a word."""
        self.process.join()
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            return None

    def interrupt(self) -> None:
        """As Ctrl-C would; then waits until its state is kept."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)
        self.process.join(PATIENCE)
        self.process.terminate()


def _ended(running: dict[int, _Worker]) -> list[int]:
    """Waits until at least one process has ended."""
    if not running:
        return []
    ready = connection.wait([worker.process.sentinel for worker in running.values()])
    return [number for number, worker in running.items() if worker.process.sentinel in ready]


def _work(job: Job, root: Path, fresh: bool, pipe: Any) -> None:
    """A process's whole life."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(os, "setpgrp"):  # Ctrl-C reaches the parent alone, which hands it on once
        os.setpgrp()
    try:
        execute(job, Store(root), fresh=fresh)
        pipe.send(DONE)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        pipe.send(_said(error))
    finally:
        pipe.close()


@contextmanager
def _shared_cores(workers: int) -> Iterator[None]:
    """Processes that start in the block share the machine's cores, unless the user has said how many threads to use."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    ours = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, share))
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
