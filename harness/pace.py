"""How often work under way is kept on the disk: by time, whatever a step costs, so that an interruption costs a minute
at most."""

from __future__ import annotations

import time

KEEP_SECONDS = 45.0  # between two snapshots: what an interruption may cost


class Pace:
    """Says when it is time for the next snapshot. `seconds`: None takes `KEEP_SECONDS`."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = KEEP_SECONDS if seconds is None else seconds
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last > self._seconds

    def reset(self) -> None:
        """A snapshot has been made."""
        self._last = time.monotonic()
