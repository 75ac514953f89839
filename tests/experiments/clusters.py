"""A Dask cluster of real processes on this machine: a scheduler, and workers that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.folders import python_path
from tests.waiting import wait_for

HOST = "127.0.0.1"


class DaskCluster:
    """`address` is the scheduler's; what its processes say goes into files under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def scheduler(self) -> subprocess.Popen[bytes]:
        file = self.folder / "scheduler.json"
        result = self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        wait_for(lambda: file.exists() and file.stat().st_size > 0, "a scheduler")
        self.address = json.loads(file.read_text())["address"]
        return result

    def worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """One that does one task at a time; returns at once."""
        arguments = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder / "scratch"), *options)
        return self._start("worker", self.address, *arguments, **environment)

    def _start(self, kind: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{kind}-{len(self.started)}.log").open("wb") as log:
            result = subprocess.Popen(
                [sys.executable, "-c", "from dask.__main__ import main; main()", kind, "--host", HOST, *arguments],
                env={**os.environ, "PYTHONPATH": python_path(), **environment},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(result)
        return result


def kill(process: subprocess.Popen[bytes]) -> None:
    """The process and those in its group, a worker's nanny and the worker itself, at once and without a word."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def dask_cluster(folder: Path) -> Iterator[DaskCluster]:
    """With its scheduler started; nothing of it is left afterwards."""
    folder.mkdir()
    result = DaskCluster(folder)
    try:
        result.scheduler()
        yield result
    finally:
        for process in reversed(result.started):
            kill(process)
