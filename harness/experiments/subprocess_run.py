"""One run of a grid in a process of its own: `python -m harness run MODEL --config FILE`.

The end of a child process frees everything that a run used, GPU memory and threads included. Its configuration
(`RUN_ID.yaml`) and everything it prints (`RUN_ID.log`) are in the grid's folder. The child treats EOF on stdin (parent
exit) like SIGINT: it saves a checkpoint and exits.
"""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from harness.core.environment import VARIABLE, cache_dir
from harness.core.files import write_result_text
from harness.errors import HarnessError, InputError
from harness.protocol.context import Reporter
from harness.runs.devices import LOCAL, RANK, SIZE
from harness.runs.job import Job
from harness.runs.run import execute
from harness.store.record import RunKey
from harness.store.run_store import Store, Supersedes

PATIENCE = 60.0  # seconds that an interrupted process has to save its checkpoint
INTERRUPTED = 130
NEVER = "never"  # `--replaces` where no complete run is to be replaced
PROGRAM = ("-P", "-m", "harness")  # -P: of the working folder only what this process imports from it
TAIL = 100_000  # bytes at the end of a log that are searched for the reason of a failure
SPEAKER, INTERNAL, TRACEBACK = "harness: ", "internal error: ", "Traceback (most recent call last)"


@dataclass(frozen=True)
class Command:
    """`harness ARGUMENTS` in the working folder `folder`, with `$HARNESS_HOME` `home`. Its output goes to the file
    `log`. Any process that sees the same folders can execute it."""

    arguments: tuple[str, ...]
    folder: str
    home: str
    log: str


@dataclass(frozen=True)
class Task:
    """One run to make. `root`, `folder`: the absolute paths of the results and of the grid's files.

    `replaces` is when the complete run that `fresh` is to replace was finished: a newer one was made by an earlier
    attempt of this task, or by another command, and stays.
    """

    name: str
    job: Job
    key: RunKey
    root: Path
    folder: Path
    fresh: bool = False
    replaces: datetime | None = None

    def make(self, reporter: Reporter | None = None, note: Callable[[str], None] = lambda line: None) -> None:
        """Makes the run in this process; exceptions pass through."""
        fresh = Supersedes(self.replaces) if self.fresh else False
        execute(self.job, Store(self.root), fresh=fresh, expected=self.key.run_id, reporter=reporter, note=note)

    def command(self) -> Command:
        """The command that makes the run; writes its configuration. Raises `InputError` where that is not possible."""
        job, run_id = self.job, self.key.run_id
        config = self.folder / f"{run_id}.yaml"
        write_result_text(config, job.config_yaml())
        words = ["run", job.entry.argument, "--config", str(config), "--results", str(self.root), "--expected", run_id]
        words += ["--device", job.device] if "--device" in job.command else []
        words += [f"--track={spec.name}{spec.where and '='}{spec.where}" for spec in job.track]
        words += ["--fresh", "--replaces", self.replaces.isoformat() if self.replaces else NEVER] if self.fresh else []
        log = config.with_suffix(".log")
        return Command((*words, "--until-eof"), str(Path.cwd()), str(cache_dir()), str(log))


def superseded(text: str | None) -> Supersedes | None:
    """The run that `--replaces` names; None without the option."""
    return None if text is None else Supersedes(None if text == NEVER else datetime.fromisoformat(text))


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

    @classmethod
    def of_process(cls, code: int, output: str) -> RunOutcome:
        """By the exit code of `harness run`, and the last line of its output."""
        if code == 0:
            return cls()
        if code not in (InputError.exit_code, HarnessError.exit_code):
            return cls(f"its process ended with code {code}", killed=True)
        lines = [line for line in output.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if line.startswith(SPEAKER)), "".join(lines[-1:]))
        begin, end = output.find(TRACEBACK), output.rfind(SPEAKER)
        trace = "" if code == InputError.exit_code or begin < 0 else output[begin : end if end > begin else None]
        return cls(reason.removeprefix(SPEAKER).removeprefix(INTERNAL) or f"its process ended with code {code}", trace)


class RunProcess:
    """A running command, executed with this process's interpreter and modules."""

    def __init__(self, command: Command) -> None:
        values = {VARIABLE: command.home, "HARNESS_DEBUG": "1", "PYTHONIOENCODING": "utf-8"}
        values["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        launcher = (RANK, SIZE, LOCAL)  # a run of one process, also where this one has a launcher
        environment = {name: value for name, value in os.environ.items() if name not in launcher} | values
        self._log = Path(command.log)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._begin = log.tell()
            # A session of its own: Ctrl-C reaches the parent alone, which forwards it once.
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM, *command.arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=command.folder if Path(command.folder).is_dir() else None,
                env=environment,
                start_new_session=True,
            )

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
        self.terminate()
        with self._log.open("rb") as log:
            log.seek(max(self._begin, self._log.stat().st_size - TAIL))
            return RunOutcome.of_process(self._process.returncode, log.read().decode("utf-8", "replace"))


def stop_at_eof() -> None:
    """`--until-eof`: from now on EOF on stdin stops this process like Ctrl-C, and `PATIENCE` seconds later in any
    case."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stdin = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    Thread(target=_watch, args=(stdin,), daemon=True).start()


def _watch(stdin: BinaryIO) -> None:
    stdin.read()
    if os.name == "nt":
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGINT)  # unlike the former, it wakes a sleeping main thread
    time.sleep(PATIENCE)
    os._exit(INTERRUPTED)
