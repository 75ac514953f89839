"""`CheckpointTimer`: when to write the next checkpoint, by elapsed time and by the cost of writing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

KEEP_SECONDS = 45.0  # between two checkpoints: the maximal loss of an interruption
CHEAP = 5.0  # seconds of writing; slower checkpoints are less frequent, so that they take a tenth of the time


class CheckpointTimer:
    """Tells when the next checkpoint is due. `seconds`: interval, None: `KEEP_SECONDS`."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = KEEP_SECONDS if seconds is None else seconds
        self._cost = 0.0
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last > self._seconds * max(1.0, self._cost / CHEAP)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Context of writing a checkpoint."""
        start_time = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - start_time
