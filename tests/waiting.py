"""Waiting for other processes: a busy machine or a cold disk may take its time, and only a hang ends it."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 600.0  # seconds


def wait_for(observed: Callable[[], bool], kind: str) -> None:
    """Until `seen()`; fails after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not observed():
        assert time.monotonic() < deadline, f"{kind} does not come"
        time.sleep(0.05)
