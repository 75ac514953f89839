"""The worker process of a library: `python -m baselines.recbole.worker FOLDER`, started by `worker_process`.

Runs the loop over commands, for any library; `engine` and `training` of the library execute them.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from baselines.library import Channel, RemoteError, receive, send

WATCH_SECONDS = 0.2


class Engine(Protocol):
    """One model of a library with its data, as the worker drives it. The fields of `open` are its arguments."""

    def size(self) -> dict[str, Any]: ...

    def answer(self, command: str, message: dict[str, Any]) -> dict[str, Any]: ...


Train = Callable[[Any, Channel, dict[str, Any]], dict[str, Any]]
Library = tuple[Callable[..., Engine], Train]  # what makes an engine, and what trains it to an order


def main() -> None:
    """RecBole's process."""
    run(load)


def load() -> Library:
    """Patches this process and imports RecBole."""
    from baselines.recbole import patches

    patches.apply()
    from baselines.recbole.engine import Engine
    from baselines.recbole.training import train

    return Engine, train


def run(prepare: Callable[[], Library]) -> None:
    """Imports the library by `prepare` and answers commands until the harness closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the library prints goes to the log
    folder = Path(sys.argv[1])
    threading.Thread(target=_die_with, args=(os.getppid(), folder), daemon=True).start()
    commands = sys.stdin
    sys.argv = sys.argv[:1]  # libraries read settings from the command line
    os.chdir(folder)  # where libraries drop what they write unasked
    serve(commands, answers, prepare())
    shutil.rmtree(folder, ignore_errors=True)  # the pipe was closed: the harness was killed before it could


def serve(commands: IO[str], answers: IO[str], library: Library) -> None:
    """One `done` or `refused` for each command."""
    make, train = library
    link = Channel(commands, answers)
    engine: Engine | None = None
    while (message := receive(commands)) is not None:
        command = message.pop("kind")
        try:
            if command == "open":
                engine = make(**message)
                answer = engine.size()
            elif engine is None:
                raise ValueError(f"{command!r} before 'open'")
            elif command == "fit":
                answer = train(engine, link, message["order"])
            else:
                answer = engine.answer(command, message)
        except RemoteError as refusal:
            send(answers, {"kind": "refused", **refusal.fields})
        else:
            send(answers, {"kind": "done", **answer})


def _die_with(parent: int, folder: Path) -> None:
    """Ends this process when the harness was killed, which had no time to; nobody else would remove the folder."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
