"""When to write the next checkpoint: by elapsed time, less often where a checkpoint is slow to write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

KEEP_SECONDS = 45.0  # between two snapshots: what an interruption may cost
CHEAP = 5.0  # seconds that a snapshot may take; of a dearer one there are fewer, so that all take a tenth of the time


class CheckpointTimer:
    """Says when it is time for the next snapshot. `seconds`: None takes `KEEP_SECONDS`."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = KEEP_SECONDS if seconds is None else seconds
        self._cost = 0.0
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last > self._seconds * max(1.0, self._cost / CHEAP)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around the making of a snapshot."""
        start_time = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - start_time
