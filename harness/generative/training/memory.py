"""How the C library's allocator treats large arrays: kept while training runs, given back to the system now and then.

By default glibc maps every large array anew and unmaps it when it is freed, so that each operation of a step touches
fresh pages: 4,700 page faults a step of a small model, 131 with `keep_freed_memory` (`docs/log.md`).

Training over steps of many shapes leaves holes that glibc keeps: a run with all layers of SmolLM2 grew from 11 to 19 GB
in an hour on the CPU and was killed for it (`docs/log.md`).
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
ARRAY = 1 << 30  # bytes up to which an array is taken from the heap


def keep_freed_memory() -> None:
    """Lets this process reuse the memory of freed arrays instead of returning each to the system at once; `trim` still
    returns it. Does nothing where the C library has no such call."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(M_MMAP_THRESHOLD, ARRAY)
            library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def trim() -> None:
    """Returns free pages of the heap; does nothing where the C library has no such call."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
