"""The worker process of RecTools: `python -m baselines.rectools.worker FOLDER`, started by `worker_process`."""

from __future__ import annotations

from baselines.library import Worker
from baselines.recbole.worker import Library, run

RECTOOLS = Worker("RecTools", "baselines.rectools.worker")


def load() -> Library:
    """Imports RecTools; this takes seconds of CPU time, mostly for Lightning."""
    from baselines.rectools.engine import Engine
    from baselines.rectools.training import train

    return Engine, train


if __name__ == "__main__":
    run(load)
