"""The command that repeats stored runs, from their records."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.store.run_store import StoredRun


def command(runs: Sequence[StoredRun]) -> str:
    """The shell command of runs that differ by seed only. A data folder is given by its stored name, a ranking file by
    its name. For a record of schema 1 the stored `config.yaml` is used."""
    record = runs[0].record
    words = record.command
    if not words and record.seed is None:
        words = ["harness", "evaluate", "PREDICTIONS", "-d", record.dataset.name, "--name", record.model]
    elif not words:
        folder = runs[0].folder
        words = ["harness", "run", record.model, "-d", "", "--config", str(folder.config), "--seed", str(record.seed)]
    else:
        words = list(words)
    if words[1] == "evaluate":
        words[2] = Path(words[2]).name
    words[words.index("-d") + 1] = record.dataset.name
    if "--seed" in words:
        place = words.index("--seed")
        words[place : place + 2] = [word for run in runs for word in ("--seed", str(run.record.seed))]
    return shlex.join(words)
