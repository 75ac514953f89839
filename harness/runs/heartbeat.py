"""Heartbeat between the processes of a run: detects a process that no longer responds.

A process that dies closes its connections, which the others notice at once; a machine that hangs or loses power closes
nothing, and a collective would wait for days. Each process increments a counter in the launcher's store and reads the
others' counters in one thread. A second thread checks how long ago each counter last changed, and ends this process if
one has not changed, or if the store does not respond. It counts its own checks and not seconds, so that machines that
are all suspended at once can continue.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

from harness.errors import PeerLost

BEAT = 5.0  # seconds
SILENT = 600.0  # seconds; libraries hold the interpreter lock for less


def _end(line: str) -> None:
    """Ends the process: nothing else interrupts a waiting collective. Stored state is valid at any time."""
    print(line, file=sys.stderr, flush=True)
    os._exit(PeerLost.exit_code)


@contextmanager
def heartbeat(store: Any, rank: int, size: int, end: Callable[[str], None] = _end) -> Iterator[None]:
    """Within the block all processes monitor each other over `store`, a key-value store of torch.distributed; a process
    that has left the block is not monitored. `end` gets the error in one line and does not return."""
    monitor = _Heartbeat(store.clone() if hasattr(store, "clone") else store, rank, size)  # with its own connection
    threads = [Thread(target=monitor.exchange, daemon=True), Thread(target=monitor.watch, args=(end,), daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        monitor.over.set()
        threads[1].join(BEAT)
        threads[0].join(BEAT)  # marks this process as ended, if the store still exists


@dataclass
class _Heartbeat:
    store: Any
    rank: int
    size: int
    over: Event = field(default_factory=Event)
    checks: int = 0
    last_change: dict[int, int] = field(default_factory=dict)  # by rank, the check at which its counter last changed
    ended: set[int] = field(default_factory=set)  # ranks that ended normally

    def exchange(self) -> None:
        counts: dict[int, int] = {}
        with suppress(Exception):  # the store has ended: `watch` or the transport reports it
            while not self.over.wait(BEAT):
                self.store.add(f"harness/beat/{self.rank}", 1)
                for other in range(self.size):
                    count = self.store.add(f"harness/beat/{other}", 0)
                    if count != counts.get(other):
                        counts[other], self.last_change[other] = count, self.checks
                    if self.store.add(f"harness/ended/{other}", 0):
                        self.ended.add(other)
            self.store.add(f"harness/ended/{self.rank}", 1)

    def watch(self, end: Callable[[str], None]) -> None:
        while not self.over.wait(BEAT):
            self.checks += 1
            peers = [r for r in range(self.size) if r not in (self.rank, *self.ended)]
            silent = [r for r in peers if (self.checks - self.last_change.get(r, 0)) * BEAT > SILENT]
            if silent and not self.over.is_set():
                owner = f"process {silent[0]} of {self.size}"
                speaker = f"harness, process {self.rank} of {self.size}" if self.rank else "harness"
                message = f"{owner} has not responded for {SILENT:.0f} seconds"
                end(f"{speaker}: {message}; the same command resumes the run")
                return
