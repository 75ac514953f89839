"""Notices a process of this run that has gone silent. One that dies closes its connections, and the others hear it at
once; one whose machine lost its power, or stands still, closes nothing, and a sum would wait for it for days.

Each counts beats in the launcher's store, and reads the others' counts, in a thread of its own; another one looks at
how long ago each count last moved. It counts its own looks and not the clock's seconds, so that machines that are all
suspended at once may go on, and ends this process where one is silent, or where the store itself is.
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
SILENT = 600.0  # seconds: more than any library holds the interpreter for


def _end(line: str) -> None:
    """The only way out of a sum that waits: what is kept is whole at any time."""
    print(line, file=sys.stderr, flush=True)
    os._exit(PeerLost.exit_code)


@contextmanager
def heartbeat(store: Any, rank: int, size: int, end: Callable[[str], None] = _end) -> Iterator[None]:
    """In the block all processes watch each other over `store`, a key-value store of torch.distributed; one that has
    left the block is not missed. `end` is told what is wrong, in one line, and does not return."""
    pulse = _Heartbeat(store.clone() if hasattr(store, "clone") else store, rank, size)  # a connection of its own
    threads = [Thread(target=pulse.exchange, daemon=True), Thread(target=pulse.watch, args=(end,), daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        pulse.over.set()
        threads[1].join(BEAT)
        threads[0].join(BEAT)  # it tells the others; the store may be gone


@dataclass
class _Heartbeat:
    store: Any
    rank: int
    size: int
    over: Event = field(default_factory=Event)
    looks: int = 0
    moved: dict[int, int] = field(default_factory=dict)  # by rank, the look before which its count last moved
    left: set[int] = field(default_factory=set)  # who has ended in order

    def exchange(self) -> None:
        counts: dict[int, int] = {}
        with suppress(Exception):  # the store's process is gone: the transport says so, or its silence does
            while not self.over.wait(BEAT):
                self.store.add(f"harness/beat/{self.rank}", 1)
                for other in range(self.size):
                    count = self.store.add(f"harness/beat/{other}", 0)
                    if count != counts.get(other):
                        counts[other], self.moved[other] = count, self.looks
                    if self.store.add(f"harness/left/{other}", 0):
                        self.left.add(other)
            self.store.add(f"harness/left/{self.rank}", 1)

    def watch(self, end: Callable[[str], None]) -> None:
        while not self.over.wait(BEAT):
            self.looks += 1
            others = [r for r in range(self.size) if r not in (self.rank, *self.left)]
            silent = [r for r in others if (self.looks - self.moved.get(r, 0)) * BEAT > SILENT]
            if silent and not self.over.is_set():
                owner = f"process {silent[0]} of {self.size}"
                speaker = f"harness, process {self.rank} of {self.size}" if self.rank else "harness"
                message = f"{owner} has been silent for {SILENT:.0f} seconds"
                end(f"{speaker}: {message}; what was done is kept, and the same command continues it")
                return
