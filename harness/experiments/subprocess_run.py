"""One run in a process of its own: the task, the parent's handle, and the child's main function.

The process is a plain child, not one of `multiprocessing`: a Dask worker may not start those, and the end of a child
frees everything that a run used, GPU memory and threads included. The child treats EOF on stdin (parent exit) like
SIGINT: it saves a checkpoint and exits.
"""

from __future__ import annotations

import _thread
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from harness.core.environment import VARIABLE
from harness.core.plugins import from_file
from harness.errors import InputError
from harness.protocol.context import Reporter
from harness.runs.devices import resolve_device
from harness.runs.job import Job
from harness.runs.run import execute
from harness.store.record import RunKey
from harness.store.run_store import Store, Supersedes

PATIENCE = 60.0  # seconds that an interrupted process has to save its checkpoint
INTERRUPTED = 130
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from harness.experiments.subprocess_run import child_main as live; live()"
)


@dataclass(frozen=True)
class Task:
    """One run to make, self-contained: any process that sees the same folders can make it.

    `root`, `home` and `folder` are the absolute paths of the results, of the cache, and of the working folder.
    `replaces` is when the complete run that `fresh` is to replace was finished: a newer one was made by an earlier
    attempt of this task, or by another command, and stays.
    """

    name: str
    job: Job
    key: RunKey
    root: Path
    home: Path
    folder: Path
    fresh: bool = False
    replaces: datetime | None = None

    def make(self, reporter: Reporter | None = None, note: Callable[[str], None] = lambda line: None) -> None:
        """Makes the run in this process; exceptions pass through."""
        fresh = Supersedes(self.replaces) if self.fresh else False
        execute(self.job, Store(self.root), fresh=fresh, expected=self.key.run_id, reporter=reporter, note=note)


def packed(task: Task) -> bytes:
    """The task for `RunProcess`. A model in a file goes ahead: its classes can be unpickled once the file is loaded."""
    return pickle.dumps((task.job.entry.file, pickle.dumps(task)))


def _unpacked(stdin: BinaryIO) -> Task:
    file, task = pickle.load(stdin)
    if file:
        from_file(file)
    return pickle.loads(task)


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a task. No reason: its run is complete. `killed`: its process ended without a result."""

    reason: str = ""
    trace: str = ""
    killed: bool = False

    @classmethod
    def of(cls, error: BaseException) -> RunOutcome:
        """The reason in one line, with the traceback unless it is wrong input."""
        if isinstance(error, InputError):
            return cls(str(error))
        line = " ".join(str(error).split())
        return cls(f"{type(error).__name__}: {line}", "".join(traceback.format_exception(error)))


class RunProcess:
    """A running task; `content` is that of `packed`, which this process need not be able to read."""

    def __init__(self, content: bytes) -> None:
        path = json.dumps([entry or os.getcwd() for entry in sys.path])
        # A session of its own: Ctrl-C reaches the parent alone, which forwards it once.
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOT, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        with suppress(OSError):  # it is dead already, which `ending` will report
            self._process.stdin.write(content)
            self._process.stdin.flush()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended, after at most this many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def terminate(self) -> None:
        """Stops it like Ctrl-C."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def stop(self, patience: float = PATIENCE) -> None:
        """Stops it, and waits this many seconds for its checkpoint."""
        self.terminate()
        if not self.wait(patience):
            self._process.kill()
            self.wait()

    def ending(self) -> RunOutcome:
        """Its outcome; waits for its end."""
        self.wait()
        assert self._process.stdout is not None
        with self._process.stdout as out:
            message = out.read()
        self.terminate()
        with suppress(ValueError):  # it wrote no result, or was killed while it did
            return RunOutcome(**json.loads(message))
        return RunOutcome(f"its process ended with code {self._process.returncode}", killed=True)


def child_main() -> None:
    """The main function of the child."""
    stdin, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # the output of libraries is not the result
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        out.write(json.dumps(asdict(_made(stdin))))
        out.flush()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _made(stdin: BinaryIO) -> RunOutcome:
    try:
        task = _unpacked(stdin)
        Thread(target=_watch, args=(stdin,), daemon=True).start()
        os.environ[VARIABLE] = str(task.home)
        if task.folder.is_dir():
            os.chdir(task.folder)
        resolve_device(task.job.device, task.job.settings.profile)  # this may not be the machine that planned it
        task.make()
    except Exception as error:
        return RunOutcome.of(error)
    return RunOutcome()


def _watch(stdin: BinaryIO) -> None:
    """Waits for EOF on stdin, then for the checkpoint, but not for ever."""
    stdin.read()
    if os.name == "nt":
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGINT)  # unlike the former, it wakes a sleeping main thread
    time.sleep(PATIENCE)
    os._exit(INTERRUPTED)
