"""`Session`: a library's worker process, and the protocol between both sides: JSON lines over pipes, arrays as files.

A session has the process, its temporary folder and its log, and converts its exit to one error. A message is a JSON
object with a `kind`: the harness sends commands; the worker answers each with any number of `note` (no reply) and `ask`
(one JSON object as reply) and one final `done` or `refused`. Imports neither torch nor the library.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.data.ragged import RaggedArray
from harness.errors import HarnessError, InputError, unknown_name
from harness.protocol.requests import Requests


def send(pipe: IO[str], message: Mapping[str, Any]) -> None:
    """Writes one message; `BrokenPipeError` where nobody reads any more."""
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


def receive(pipe: IO[str]) -> dict[str, Any] | None:
    """The next message, or None where the other side has ended."""
    line = pipe.readline()
    return json.loads(line) if line.endswith("\n") else None


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """One file of named arrays."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote; refuses pickled objects."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_ragged(path: Path, rows: RaggedArray) -> str:
    """Rows as a file; returns its name."""
    write_arrays(path, values=rows.values, offsets=rows.offsets)
    return str(path)


def read_ragged(path: Path) -> RaggedArray:
    """What `write_ragged` wrote."""
    return RaggedArray(**read_arrays(path))


def write_requests(path: Path, requests: Requests) -> None:
    """Questions as a file: users, and histories as values and offsets."""
    write_arrays(path, users=requests.users, values=requests.histories.values, offsets=requests.histories.offsets)


def read_requests(path: Path) -> tuple[np.ndarray, RaggedArray]:
    """Users, shape (n,), and their histories."""
    arrays = read_arrays(path)
    return arrays["users"], RaggedArray(arrays["values"], arrays["offsets"])


class RemoteError(Exception):
    """The user's input is at fault: becomes a `refused` message with these fields."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(str(fields))


class Channel:
    """The way back to the harness while a command runs."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands, self._answers = commands, answers

    def note(self, **fields: Any) -> None:
        """Says something and goes on."""
        send(self._answers, {"kind": "note", **fields})

    def ask(self, **fields: Any) -> dict[str, Any]:
        """Says something and waits for the reply; ends this process where the harness is gone."""
        send(self._answers, {"kind": "ask", **fields})
        reply = receive(self._commands)
        if reply is None:
            raise SystemExit(1)
        return reply


ROOT = Path(__file__).parents[2]  # holds `baselines` and `harness`


LOG_LINES = 100  # of the worker's log, kept with the run


LAST_WORDS = 6  # of them, shown when it dies


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


Listener = Callable[[dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True)
class Worker:
    """A library and the module that runs it: `library` as users write it; `module` is started with `python -m`."""

    library: str
    module: str

    @property
    def key(self) -> str:
        """The library's name in records, logs and configuration sections."""
        return self.library.lower()


RECBOLE = Worker("RecBole", "baselines.recbole.worker")


class Session:
    """A running worker. `folder` is where both sides lay their files; it goes when the session ends.

    The worker is in a process group of its own, so that Ctrl-C reaches only the harness, which then ends it.
    """

    def __init__(self, worker: Worker = RECBOLE) -> None:
        self.worker = worker
        self._temporary = tempfile.TemporaryDirectory(prefix=f"harness-{worker.key}-")
        self.folder = Path(self._temporary.name)
        self.log = self.folder / "log.txt"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", worker.module, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._finalizer = weakref.finalize(self, _end, self._process, self._temporary)

    def request(self, command: str, listen: Listener | None = None, **fields: Any) -> dict[str, Any]:
        """Sends one command and returns the fields of its answer; `listen` hears what comes between.

        Raises `InputError` for a setting that the library does not know, `HarnessError` where the worker has died.
        After any exception, Ctrl-C included, the session is over.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            send(self._process.stdin, {"kind": command, **fields})
            while (message := receive(self._process.stdout)) is not None:
                if message["kind"] == "done":
                    return message
                if message["kind"] == "refused":
                    raise _refusal(message, self.worker)
                reply = listen(message) if listen else None
                if message["kind"] == "ask":
                    send(self._process.stdin, reply or {})
            raise self._death(command)
        except BrokenPipeError:
            raise self._death(command) from None
        except BaseException:
            self.close()
            raise

    def log_tail(self) -> list[str]:
        """The last lines that the library has said, without what libraries draw or colour."""
        message = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        lines = (COLOUR.sub("", line).strip() for line in message.splitlines())
        return [line for line in lines if line][-LOG_LINES:]

    def close(self) -> None:
        """Ends the worker and removes its folder; does nothing the second time."""
        self._finalizer()

    def _death(self, command: str) -> HarnessError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=60)
        lines = self.log_tail()[-LAST_WORDS:]
        code = self._process.poll()
        self.close()
        message = " | ".join(lines) or "-"
        if missing := re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", message):
            return InputError(
                f"{self.worker.library} needs the package {missing[1]}, which is not installed",
                hint="pip install --no-deps -r constraints.txt installs all that this project's models import",
                code="missing-package",
            )
        return HarnessError(f"{self.worker.library}'s process ended with code {code} during {command!r}: {message}")


def _refusal(message: dict[str, Any], worker: Worker) -> InputError:
    if "known" in message:
        kind, location = f"{worker.library} setting", f"{worker.key}.extra"
        return unknown_name(kind, message["name"], message["known"], where=location)
    return InputError(message["what"], where=message.get("where"), hint=message.get("hint"), code=message.get("code"))


def _end(process: subprocess.Popen[str], temporary: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    process.wait()
    temporary.cleanup()
