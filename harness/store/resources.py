"""Cost of a run: wall seconds, and peak memory of this process and its children, as measured."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

MB = 2**20


class Stopwatch:
    """Wall seconds since it was made.

    >>> Stopwatch().seconds >= 0
    True
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began


class MemoryWatch:
    """The highest memory while its block runs.

    Samples the resident memory of the process and its children together four times a second. Between samples the
    kernel's own high-water mark tells, where it rose during the block: that of this process, and that of the largest
    child that has ended.
    """

    PERIOD = 0.25

    def __init__(self) -> None:
        self.peak_mb = 0.0  # known when the block has ended, in units of 2**20 bytes
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._marks = _high_water()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()
        risen = [now for previous, now in zip(self._marks, _high_water(), strict=True) if now > previous]
        self.peak_mb = max([self._peak, *risen]) / MB

    def _watch(self) -> None:
        while not self._done.wait(self.PERIOD):
            self._sample()

    def _sample(self) -> None:
        import psutil

        me = psutil.Process()
        total = me.memory_info().rss
        for child in me.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:  # it has ended since
                continue
        self._peak = max(self._peak, total)


def _high_water() -> tuple[int, int]:
    try:
        import resource
    except ImportError:  # Windows
        return (0, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    current, children = (
        resource.getrusage(owner).ru_maxrss for owner in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return current * unit, children * unit


def reset_device_memory(device: str) -> None:
    """Begins the count of `device_memory_mb` anew."""
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def device_memory_mb(device: str) -> float | None:
    """The most memory that tensors held on a CUDA device in this process; None elsewhere. Never imports torch."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return torch.cuda.max_memory_allocated(device) / MB
