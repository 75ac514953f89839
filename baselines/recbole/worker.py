"""RecBole's process: `python -m baselines.recbole.worker FOLDER`, started by `session`, never by hand.

Owns the loop over commands and the process itself: its pipes, its folder, its end. What a command does is `engine`'s
and `training`'s business.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from baselines.recbole.exchange import Link, Refusal, receive, send

if TYPE_CHECKING:
    from baselines.recbole.engine import Engine

WATCH_SECONDS = 0.2


def main() -> None:
    """Answers commands until the harness closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever RecBole prints goes to the log
    folder = Path(sys.argv[1])
    threading.Thread(target=_die_with, args=(os.getppid(), folder), daemon=True).start()
    commands = sys.stdin
    sys.argv = sys.argv[:1]  # RecBole reads settings from the command line
    os.chdir(folder)  # where RecBole drops what it writes unasked
    from baselines.recbole import patches

    patches.apply()
    serve(commands, answers)
    shutil.rmtree(folder, ignore_errors=True)  # the pipe was closed: the harness was killed before it could


def serve(commands: IO[str], answers: IO[str]) -> None:
    """One `done` or `refused` for each command."""
    from baselines.recbole.engine import Engine
    from baselines.recbole.training import train

    link = Link(commands, answers)
    engine: Engine | None = None
    while (message := receive(commands)) is not None:
        command = message.pop("kind")
        try:
            if command == "open":
                engine = Engine(**message)
                answer = engine.size()
            elif engine is None:
                raise ValueError(f"{command!r} before 'open'")
            elif command == "fit":
                answer = train(engine, link, **message)
            else:
                answer = engine.answer(command, message)
        except Refusal as refusal:
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
