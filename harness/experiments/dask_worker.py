"""What runs on a Dask worker: whether the worker can make runs at all, and one task at a time in a process of its own.

Handed over by name, so a worker needs this program; its own process loads no model and keeps no memory of a run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.experiments.subprocess_run import CellProcess
from harness.store.environment import source_mark

WORKER_POLL = 1.0  # seconds between two looks at whether a task is still wanted
LATE = 5.0  # seconds in which a network file system must show a new file
LEAVING = ("closing_gracefully", "closing", "closed", "failed")  # states of a worker
PROGRAM = source_mark()  # of what this process has loaded, whatever is edited later


def unfit(marks: Sequence[str], program: str) -> str:
    """Why this worker may not make runs, in words that follow its address; empty where it may.

    `marks` are files that the client has just made, one in each folder that must be shared, and holds locked.
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


def run_cell(packed: bytes, topic: str, marks: Sequence[str], program: str) -> dict[str, Any]:
    """Makes a task; the fields of its `Ending`, or `unfit`, or `left` where the worker closes. Tells `topic` when it
    begins and ends. Where nobody waits for the task any more, or the worker closes, it is stopped and keeps its state.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    if why := unfit(marks, program):
        return {"unfit": f"{worker.address} {why}"}
    worker.log_event(topic, {"began": key, "worker": worker.address})
    process = CellProcess(packed)
    try:
        while not process.wait(WORKER_POLL):
            known = worker.state.tasks.get(key)
            if known is None or known.state == "cancelled" or worker.status.name in LEAVING:
                process.stop()
                return {"left": True}
        return asdict(process.ending())
    finally:
        process.stop()
        worker.log_event(topic, {"ended": key})
