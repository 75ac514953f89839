"""An executor on the workers of a Dask cluster; docs/cluster.md says how to start one.

Every task that may start is submitted at once, so that an adaptive cluster can grow with its queue. The scheduler gives
a task whose worker died to another one (`allowed-failures`); an attempt after the run was complete finds it in the
store. Dask counts a worker's death against every task that was assigned to it, started or not; here it counts only
against those that had started.

`incompatibility` and `run_cell` run on a worker, by import, so that a worker needs this program. It executes each task
as `harness run` in a subprocess: its own process loads no model.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, astuple
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout

from harness.core.environment import cache_dir
from harness.core.files import writing_results
from harness.errors import InputError
from harness.experiments.scheduler import POLL, Ended, Note
from harness.experiments.subprocess_run import PATIENCE, Command, RunOutcome, RunProcess, Task
from harness.store.environment import source_mark

if TYPE_CHECKING:
    from distributed import Client, Future


WORKER_POLL = 1.0  # seconds between two checks whether a task was cancelled
LATE = 5.0  # seconds in which a network file system must show a new file
LEAVING = ("closing_gracefully", "closing", "closed", "failed")  # states of a worker
PROGRAM = source_mark()  # of the code that this process has loaded
ANSWER = 30.0  # seconds to wait for the scheduler, or the worker that holds a result: Dask's default
FAREWELL = 5.0  # seconds to close the connection
LOOK = 5.0  # seconds between two checks of the workers
ROUNDS = 4  # how often the scheduler may give up a task that had not started
GPU = "GPU"  # the resource that a worker with a card offers: `dask worker --resources "GPU=1"`


def incompatibility(marks: Sequence[str], program: str) -> str:
    """The reason why this worker cannot make runs, to follow its address; empty where it can.

    `marks` are new files of the client, one in each folder that must be shared, which it holds locked.
    `program` is the client's `PROGRAM`.
    """
    if program != PROGRAM:
        return "runs another version of the program; install the same one there, and start it anew"
    for mark in map(Path, marks):
        deadline = time.monotonic() + LATE
        while not mark.exists():
            if time.monotonic() > deadline:
                return f"does not see {mark.parent} as this machine does; mount it there under the same path"
            time.sleep(0.1)
        try:
            with FileLock(mark, timeout=0):
                return f"does not see locks that this machine holds in {mark.parent}; mount it with locks for files"
        except Timeout:
            pass
        except (OSError, NotImplementedError) as error:
            return f"cannot write in {mark.parent} ({error}); mount it so that it can"
    return ""


def run_cell(command: tuple[Any, ...], topic: str, marks: Sequence[str], program: str) -> dict[str, Any]:
    """Executes the fields of a `Command`; returns those of its `RunOutcome`, or `unfit`, or `left` where the worker
    closes. Logs its begin and end to `topic`. Where the task is cancelled or the worker closes, it is stopped and saves
    its checkpoint."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    if reason := incompatibility(marks, program):
        return {"unfit": f"{worker.address} {reason}"}
    worker.log_event(topic, {"began": key, "worker": worker.address})
    process = RunProcess(Command(*command))
    try:
        while not process.wait(WORKER_POLL):
            task_state = worker.state.tasks.get(key)
            if task_state is None or task_state.state == "cancelled" or worker.status.name in LEAVING:
                process.stop()
                return {"left": True}
        return asdict(process.ending())
    finally:
        process.stop()
        worker.log_event(topic, {"ended": key})


@contextmanager
def connected(address: str, note: Note) -> Iterator[Cluster]:
    """The cluster whose scheduler has this address, or wrote this file. Raises `InputError` where none responds."""
    location = f"--scheduler {address}"
    if find_spec("distributed") is None:
        raise InputError(
            "needs the package distributed", where=location, hint="pip install distributed, or say --workers N"
        )
    from distributed import Client

    for name in ("distributed", "distributed.client"):  # their long messages repeat our error
        logging.getLogger(name).setLevel(logging.CRITICAL)
    file = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        client = Client(**file, timeout=ANSWER, set_as_default=False)  # pyright: ignore[reportArgumentType]
    except (OSError, ValueError, TypeError, KeyError) as error:
        line = " ".join(str(error).split())
        hint = "start one with `dask scheduler`, and give the address that it prints"
        raise InputError(f"no Dask scheduler answers there ({line})", where=location, hint=hint) from error
    try:
        yield Cluster(client, location, note)
    finally:
        with suppress(Exception):
            client.close(timeout=FAREWELL)


class Cluster:
    """The `Executor` of a Dask cluster."""

    def __init__(self, client: Client, location: str, note: Note) -> None:
        self._client, self._where, self._note = client, location, note
        self._topic = f"harness-{uuid4().hex}"
        self._terms: tuple[list[str], str] = ([], PROGRAM)
        self._running: dict[str, tuple[Task, Future]] = {}
        self._begun: Counter[str] = Counter()  # how often, by key
        self._deaths: Counter[str] = Counter()  # of workers during a task, by its name
        self._rounds: Counter[str] = Counter()  # how often the scheduler gave up a task, by its name
        self._on_workers: set[str] = set()
        self._events: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._taken, self._checked, self._lacking = 0, 0.0, ""

    @contextmanager
    def session(self, root: Path) -> Iterator[None]:
        with _marked((root.resolve(), cache_dir())) as marks:
            self._terms = (marks, self._terms[1])
            self._check()
            self._client.subscribe_topic(self._topic, lambda event: self._events.put(event[1]))
            try:
                yield
            except BaseException:
                self._stop()
                raise

    def has_capacity(self) -> bool:
        return True

    def start(self, task: Task) -> None:
        key = f"{task.name} {uuid4().hex[:8]}"
        cards = {GPU: 1} if task.job.device.startswith("cuda") else None
        self._taken, self._checked = self._taken + 1, 0.0  # first in, first out; the workers are checked again
        options: dict[str, Any] = {"key": key, "pure": False, "priority": -self._taken, "resources": cards}
        future = self._client.submit(run_cell, astuple(task.command()), self._topic, *self._terms, **options)
        self._running[key] = (task, future)
        future.add_done_callback(lambda _: self._events.put({"over": key}))

    def ended(self) -> Ended:
        if time.monotonic() > self._checked + LOOK:
            self._check_capacity()
        try:
            received = self._events.get(timeout=POLL)
        except Empty:
            return []
        if key := received.get("began"):
            self._began(key, received["worker"])
        self._on_workers.discard(received.get("ended", ""))
        if (key := received.get("over")) in self._running:
            task, future = self._running.pop(key)
            ending = self._ending(task, key, future)
            if isinstance(ending, RunOutcome):
                return [(task, ending)]
            self._note(f"{ending}, made again: {task.name}")
            self.start(task)
        return []

    def _began(self, key: str, worker: str) -> None:
        self._on_workers.add(key)
        if key in self._running:
            message = "its worker was lost, made again" if key in self._begun else "started"
            self._note(f"{message}: {self._running[key][0].name}, by {worker}")
        self._begun[key] += 1

    def _ending(self, task: Task, key: str, future: Future) -> RunOutcome | str:
        """The outcome of a task that has ended, or the reason why another worker has to continue it."""
        from distributed.scheduler import KilledWorker

        if self._client.status != "running" or future.status == "cancelled":
            raise self._lost()
        if future.status not in ("finished", "error"):
            return "its worker was lost with its answer"
        try:
            message = future.result(timeout=ANSWER)
        except KilledWorker as error:
            return self._killed(task, key, error.allowed_failures)
        except OSError as error:
            if self._client.status != "running":
                raise self._lost() from error
            return "its worker was lost with its answer"
        except Exception as error:
            raise self._cannot(f"a worker ({RunOutcome.of(error).reason})") from error
        if "unfit" in message:
            raise self._cannot(message["unfit"])
        return "its worker left" if "left" in message else RunOutcome(**message)

    def _killed(self, task: Task, key: str, allowed: int) -> RunOutcome | str:
        """The outcome of a task that the scheduler has given up, because more than `allowed` workers died that had it.
        It is submitted again while fewer died during it, but at most `ROUNDS` times."""
        self._deaths[task.name] += self._begun[key]
        self._rounds[task.name] += 1
        if (deaths := self._deaths[task.name]) > allowed:
            return RunOutcome(f"{deaths} workers died while they made it")
        if (rounds := self._rounds[task.name]) >= ROUNDS:
            return RunOutcome(f"{rounds * (allowed + 1)} workers died that had it, {deaths} of them while they made it")
        return "workers died before they made it"

    def _check(self) -> None:
        """Checks every connected worker; one that connects later is checked with its first task."""
        self._check_capacity()
        try:
            result: Any = self._client.run(incompatibility, *self._terms, on_error="return")
        except OSError as error:
            raise self._lost() from error
        for worker, message in sorted(result.items()):
            if isinstance(message, BaseException):
                raise self._cannot(f"{worker} ({RunOutcome.of(message).reason})")
            if message:
                raise self._cannot(f"{worker} {message}")

    def _check_capacity(self) -> None:
        """Reports once when no worker can take the waiting tasks, and once when one can."""
        self._checked = time.monotonic()
        if self._client.status != "running":
            raise self._lost()
        try:
            # `scheduler_info` may be a cached copy without workers
            scheduler: Any = self._client.scheduler
            message: Any = self._client.sync(scheduler.identity)
            workers = message["workers"].values()
        except OSError as error:
            raise self._lost() from error
        cards = any(task.job.device.startswith("cuda") for task, _ in self._running.values())
        fit = [worker for worker in workers if not cards or worker["resources"].get(GPU, 0) >= 1]
        label = "offers a GPU (dask worker --resources GPU=1)" if workers and cards else "is connected"
        lacking = "" if fit else f"{self._where}: no worker {label}; waiting for one"
        if lacking != self._lacking:
            self._note(lacking or f"{self._where}: {len(fit)} workers")
        self._lacking = lacking

    def _stop(self) -> None:
        """Cancels all tasks, and waits until the running ones have saved their checkpoints."""
        if self._client.status != "running":
            return
        futures = [future for _, future in self._running.values()]
        self._running.clear()
        self._client.cancel(futures)
        deadline = time.monotonic() + PATIENCE
        while self._on_workers and time.monotonic() < deadline:
            with suppress(Empty):
                received = self._events.get(timeout=POLL)
                self._on_workers.discard(received.get("ended", ""))

    def _lost(self) -> InputError:
        hint = "what is complete is kept; start it anew, and the same command goes on"
        return InputError("the scheduler was lost, or forgot the runs", where=self._where, hint=hint)

    def _cannot(self, message: str) -> InputError:
        return InputError(f"worker {message}", where=self._where)


@contextmanager
def _marked(folders: tuple[Path, ...]) -> Iterator[list[str]]:
    """A new file in each folder, locked by this process for the block, for `incompatibility`."""
    with ExitStack() as stack:
        marks = []
        for folder in folders:
            mark = folder / f".ablate-{uuid4().hex}"
            with writing_results(folder):
                folder.mkdir(parents=True, exist_ok=True)
                stack.callback(mark.unlink, missing_ok=True)
                try:
                    stack.enter_context(FileLock(mark))
                except NotImplementedError as error:
                    message, hint = "its file system has no locks for files", "mount it with them, or choose another"
                    raise InputError(message, where=str(folder), hint=hint) from error
            marks.append(str(mark))
        yield marks
