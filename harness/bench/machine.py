"""What a benchmark ran on, and how fast this machine multiplies matrices: what a floor is counted against."""

from __future__ import annotations

import os
import platform
import statistics
import time
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, threads of torch, load before and versions: what a figure needs beside it."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def gemm_rate(rows: int = 1024, width: int = 576, out: int = 1536, precision: str = "float32") -> float:
    """Floating point operations a second of a product (rows, width) by (width, out), the shape of a block's projection:
    median of 5."""
    import torch

    kind = getattr(torch, precision)
    left, right = torch.randn(rows, width).to(kind), torch.randn(width, out).to(kind)
    torch.mm(left, right)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(8):
            torch.mm(left, right)
        seconds.append((time.perf_counter() - begun) / 8)
    return 2 * rows * width * out / statistics.median(seconds)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()
