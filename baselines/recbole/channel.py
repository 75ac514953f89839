"""How the harness and RecBole's process talk: JSON lines over pipes, arrays as files without pickle.

Used on both sides; imports neither torch nor RecBole.

A message is one JSON object with a `kind`. The harness sends commands; the worker answers each with any number of
`note` (nothing comes back) and `ask` (one JSON object comes back) and at last one `done` or `refused`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.data.ragged import Ragged
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


def write_ragged(path: Path, rows: Ragged) -> str:
    """Rows as a file; returns its name."""
    write_arrays(path, values=rows.values, offsets=rows.offsets)
    return str(path)


def read_ragged(path: Path) -> Ragged:
    """What `write_ragged` wrote."""
    return Ragged(**read_arrays(path))


def write_requests(path: Path, requests: Requests) -> None:
    """Questions as a file: users, and histories as values and offsets."""
    write_arrays(path, users=requests.users, values=requests.histories.values, offsets=requests.histories.offsets)


def read_requests(path: Path) -> tuple[np.ndarray, Ragged]:
    """Users, shape (n,), and their histories."""
    arrays = read_arrays(path)
    return arrays["users"], Ragged(arrays["values"], arrays["offsets"])


class Refusal(Exception):
    """The user's input is at fault: becomes a `refused` message with these fields."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(str(fields))


class Link:
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
