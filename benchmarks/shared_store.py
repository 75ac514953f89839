"""Many processes on one results folder, some killed at any moment: no record lost, torn or made twice.

    python -m benchmarks.shared_store [--processes 8] [--runs 50] [--kills 60] [--life 1]
        [--folder DIR [--also DIR]]

Each process makes its own runs and asks for its neighbour's at the same time, so that every run is asked for twice.
While they work, one after the other is killed by SIGKILL and started again, and the folder is read all the while as a
leaderboard reads it. In the end every run must be there once, whole, with equal metrics, and nothing else. `--folder`
on a network file system tests that one. `--also` is the same folder by another mount of it (repeatable): each mount
plays a machine with a name of its own, and processes are dealt out to them.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.victims import Place, conclude, fork, litter, torn

LOADED = ("harness.runs.run", "harness.evaluation.metrics", "baselines.classic.base", "ranx", "pyarrow.parquet")
EVERY = 0.25  # seconds between two kills, at most


@dataclass
class Team:
    """The processes, by number, and what became of them."""

    folder: Path
    data: str
    runs: int
    processes: int
    draw: random.Random
    life: float  # seconds that a process has had at least when it is killed
    also: tuple[Path, ...] = ()
    pids: dict[int, tuple[int, float]] = field(default_factory=dict)
    kills: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return Place(self.folder)

    def start(self, number: int) -> None:
        """Forks process `number`."""
        self.pids[number] = fork(lambda: self._work(number)), time.monotonic()

    def _work(self, number: int) -> int:
        from harness.runs.job import RunOptions, plan
        from harness.runs.run import execute
        from harness.store.run_store import Store

        machine = number % (1 + len(self.also))
        folder = (self.folder, *self.also)[machine]
        if self.also:
            name = f"{socket.gethostname()}-{machine}"
            socket.gethostname = lambda: name
        os.environ["HARNESS_HOME"] = str(folder / "home")
        own = [number * self.runs + run + 1 for run in range(self.runs)]
        next_door = [(number + 1) % self.processes * self.runs + run + 1 for run in range(self.runs)]
        tell = os.open(folder / f"made-{machine}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for seed in (seed for pair in zip(own, next_door, strict=True) for seed in pair):
            (job,) = plan("mostpop", RunOptions(dataset=str(folder / self.data), seeds=(seed,)))
            done = execute(job, Store(Place(folder).results))
            if not done.reused:
                os.write(tell, f"{seed}\n".encode())
        return 0

    def reap(self) -> None:
        """Takes note of those that have ended."""
        for number, (pid, _) in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self.pids[number]
                if code := os.waitstatus_to_exitcode(status):
                    self.failed.append(f"process {number} ended with code {code}")

    def kill_one(self) -> None:
        """SIGKILL to one that has come to work, which then starts again."""
        ripe = [number for number, (_, since) in self.pids.items() if time.monotonic() - since > self.life]
        if ripe:
            number = self.draw.choice(ripe)
            pid, _ = self.pids.pop(number)
            os.kill(pid, signal.SIGKILL)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL:
                self.kills += 1
            self.start(number)


def conduct(team: Team, kills: int) -> dict[str, Any]:
    """Starts, kills, reads; what was found."""
    from harness.store.run_store import Store

    began, most, reads = time.monotonic(), 0, 0
    warnings: list[str] = []
    for number in range(team.processes):
        team.start(number)
    next_kill = time.monotonic() + team.life
    while team.pids:
        team.reap()
        if team.kills < kills and time.monotonic() > next_kill:
            team.kill_one()
            next_kill = time.monotonic() + team.draw.uniform(0, EVERY)
        there = len(Store(team.place.results).query(warn=warnings.append))
        reads += 1
        if there < most:
            warnings.append(f"{most} records were there, then {there}")
        most = max(most, there)
        time.sleep(0.02)
    seconds = round(time.monotonic() - began, 1)
    return {"seconds": seconds, "reads": reads, "kills": team.kills, **judged(team, warnings)}


def judged(team: Team, warnings: list[str]) -> dict[str, Any]:
    """Every run once, whole, with the same metrics as every other; nothing left over."""
    from harness.store.run_store import Store

    runs = Store(team.place.results).query(warn=warnings.append)
    wanted, seeds = team.processes * team.runs, Counter(run.record.seed for run in runs)
    told = Counter(seed for path in team.folder.glob("made-*.txt") for seed in path.read_text().split())
    wrong = [*team.failed, *warnings, *torn(team.place), *litter(team.place)]
    wrong += [f"seed {seed}: {seeds[seed]} records" for seed in range(1, wanted + 1) if seeds[seed] != 1]
    wrong += [f"seed {seed}: {times} processes say that they made it" for seed, times in told.items() if times != 1]
    if len({json.dumps(run.record.metrics.model_dump(), sort_keys=True) for run in runs}) != 1:
        wrong.append("not all metrics are equal")
    untold = wanted - len(told)  # killed between the record and saying so
    if untold > team.kills:
        wrong.append(f"{untold} records of which no process says that it made them, with {team.kills} kills")
    resumed = sum(run.record.details["sessions"] > 1 for run in runs)
    return {"records": len(runs), "distinct": len(seeds), "resumed": resumed, "untold": untold, "wrong": wrong}


def main() -> int:
    """From the command line; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=50, help="of each process")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--life", type=float, default=1.0, help="seconds before a process may be killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's place for temporary files")
    parser.add_argument("--also", type=Path, action="append", default=[], help="the same folder by another mount")
    parser.add_argument("--json", type=Path, help="write the figures to a file too")
    asked = parser.parse_args()
    from tests.folders import csv_folder

    folder = Path(tempfile.mkdtemp(prefix="shared-", dir=asked.folder)).resolve()
    for name in LOADED:
        import_module(name)
    gc.freeze()  # forks share what is there now
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left behind
    data = csv_folder(folder / "toy").name
    also = tuple(mount.resolve() / folder.name for mount in asked.also)
    if missing := [str(path) for path in also if not (path / data).is_dir()]:
        parser.error(f"--also: {missing[0]} is not the folder that lies in --folder")
    team = Team(folder, data, asked.runs, asked.processes, random.Random(asked.seed), asked.life, also)
    try:
        found = conduct(team, asked.kills)
    finally:
        for pid, _ in team.pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    document = {
        "processes": asked.processes,
        "machines": 1 + len(also),
        "runs": asked.runs,
        "seed": asked.seed,
        **found,
    }
    print(json.dumps(document, indent=1))
    return conclude(document, asked.json, folder, failed=bool(found["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
