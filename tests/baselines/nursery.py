"""Libraries' processes for tests: one process imports a library, and every session's worker is a fork of it.

`session` starts a fresh interpreter for each worker, of which nearly all the time is imports. What the worker does,
and how it is spoken to, is the same here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Nursery:
    """`popen` stands in for `subprocess.Popen` in `session`. A worker that is started while `doom` is (epochs, batches)
    is killed as soon as it has kept its state behind so many."""

    def __init__(self) -> None:
        self.doom: tuple[int, int] | None = None
        self._parents: dict[str, tuple[socket.socket, subprocess.Popen[bytes]]] = {}

    def popen(self, command: list[str], *, stderr: Any, code: str | None = None, **_: Any) -> Child:
        """A worker whose library and folder are the last words of `command`; with `code` a process that executes it."""
        library, folder = command[-2:]
        if library not in self._parents:
            self._parents[library] = _parent(library)
        parent = self._parents[library][0]
        (read, answers), (commands, write) = os.pipe(), os.pipe()
        socket.send_fds(parent, [json.dumps([folder, self.doom, code]).encode()], [commands, answers, stderr.fileno()])
        os.close(commands), os.close(answers)
        return Child(int(parent.recv(32)), open(write, "w", encoding="utf-8"), open(read, encoding="utf-8"))

    def output(self, library: str, code: str) -> str:
        """What `code` prints in a fork of the process that has imported a library."""
        with tempfile.TemporaryFile() as log:
            child = self.popen([library, ""], stderr=log, code=code)
            child.stdin.close()
            with child.stdout as out:
                result = out.read()
            log.seek(0)
            assert "Traceback" not in (errors := log.read().decode()), errors
        return result

    def close(self) -> None:
        for parent, process in self._parents.values():
            parent.close()
            process.wait()


def _parent(library: str) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A process that imports a library, and the socket to ask it for forks."""
    actual, other = socket.socketpair()
    command = [sys.executable, "-P", "-m", "tests.baselines.nursery", library, str(other.fileno())]
    process = subprocess.Popen(command, pass_fds=[other.fileno()], env={**os.environ, "PYTHONPATH": str(ROOT)})
    other.close()
    return actual, process


class Child:
    """As much of a `Popen` as a session uses."""

    def __init__(self, pid: int, stdin: Any, stdout: Any) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return -1
        return None

    def wait(self, timeout: float = 10) -> None:
        end = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.001)


def main() -> None:
    """Forks a worker for each request until nobody is left to ask."""
    from baselines.worker import load, run

    library = load(sys.argv[1])
    if sys.argv[1] == "recbole":
        from recbole.utils import get_model

        get_model("SASRec")  # imports all of RecBole's models
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a child
    requested = socket.socket(fileno=int(sys.argv[2]))
    while True:
        messages, fds, _, _ = socket.recv_fds(requested, 65536, 3)
        if not messages:
            return
        pid = os.fork()
        if not pid:
            requested.close()
            for value, standard in zip(fds, range(3), strict=True):
                os.dup2(value, standard)
                os.close(value)
            folder, doom, code = json.loads(messages)
            if doom is not None:
                _doom(*doom)
            try:
                if code is None:
                    run(lambda: library, Path(folder))
                else:
                    exec(code, {})
            except Exception:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)
        for value in fds:
            os.close(value)
        requested.sendall(str(pid).encode())


def _doom(epochs: int, batches: int) -> None:
    """This process dies of SIGKILL behind the state that it keeps after so many epochs and batches of the next one."""
    from baselines.worker import TrainingCheckpoint

    save = TrainingCheckpoint.save

    def fatal(self: TrainingCheckpoint, facts: dict[str, Any], best: Any, inside: tuple[int, float] | None) -> None:
        save(self, facts, best, inside)
        if (facts["start_epoch"], inside[0] if inside else 0) == (epochs, batches):
            os.kill(os.getpid(), signal.SIGKILL)

    TrainingCheckpoint.save = fatal


if __name__ == "__main__":
    main()
