"""Gives memory that is free inside this process back to the system.

Training over steps of many shapes leaves holes that glibc keeps: a run with all layers of SmolLM2 grew from 11 to 19 GB
in an hour on the CPU and was killed for it (`docs/log.md`).
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def trim() -> None:
    """Returns free pages of the heap; does nothing where the C library has no such call."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
