"""Two ways to do one thing, timed in turns in one process: what every `harness bench` command is made of.

Owns how a ratio comes about. A round runs both sides, one right after the other and first one then the other in front,
so that whatever else the machine does falls on both. The ratio is the median of the rounds' ratios of rates; a side may
do less work than the other (the usual way is slow), so rates are per unit of work. What a benchmark compares, and how
it knows that the two results are the same, is its own business.

What a benchmark ran on, and how fast this machine multiplies matrices: what a floor is counted against.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FEWEST = 3  # rounds: a median of fewer says nothing


@dataclass(frozen=True)
class Options:
    """What the command line asks of a benchmark; None leaves a number to the benchmark."""

    dataset: str | None = None
    users: int | None = None
    items: int | None = None
    beams: int | None = None
    layers: int | None = None
    batch: int | None = None
    rounds: int = FEWEST
    seed: int = 1
    width: int | None = None


@dataclass(frozen=True)
class Side:
    """One way to do it: `run()` does `units` units of work and gives what it made."""

    name: str
    run: Callable[[], Any]
    units: int


@dataclass(frozen=True)
class Timing:
    """What a side took: wall seconds of each round."""

    name: str
    units: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def per_second(self) -> float:
        return self.units / self.median

    def document(self) -> dict[str, Any]:
        rates = {"median_seconds": self.median, "per_second": self.per_second}
        return {"name": self.name, "units": self.units, "seconds": list(self.seconds), **rates}


@dataclass(frozen=True)
class Paired:
    """Both sides' timings, and what each made in its last round."""

    ours: Timing
    reference: Timing
    made: tuple[Any, Any] = field(repr=False)

    @property
    def ratio(self) -> float:
        """How many times more units a second `ours` does: median over the rounds."""
        work = self.ours.units / self.reference.units
        return statistics.median(
            work * reference / own_value
            for own_value, reference in zip(self.ours.seconds, self.reference.seconds, strict=True)
        )


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found. `identical` only where every check of equality that it made held; `checks` are the
    measured differences, `parts` further measurements, each with a ratio of its own."""

    benchmark: str
    unit: str
    identical: bool
    timed: Paired
    settings: Mapping[str, Any]
    checks: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The JSON document of `harness bench NAME --json`."""

        return {
            "benchmark": self.benchmark,
            "unit": self.unit,
            "identical": self.identical,
            "ratio": self.timed.ratio,
            "ours": self.timed.ours.document(),
            "reference": self.timed.reference.document(),
            "checks": dict(self.checks),
            "parts": dict(self.parts),
            "settings": dict(self.settings),
            "machine": machine(),
        }


def paired(current_side: Side, reference: Side, *, rounds: int = FEWEST, warm: bool = True) -> Paired:
    """Times both sides in turns; `warm` runs each once before, untimed. Raises ValueError for fewer than 3 rounds."""
    if rounds < FEWEST:
        raise ValueError(f"a median needs at least {FEWEST} rounds, got {rounds}")
    sides = (current_side, reference)
    if warm:
        for side in sides:
            side.run()
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for turn in range(rounds):
        for place in (0, 1) if turn % 2 == 0 else (1, 0):
            start_time = time.perf_counter()
            results[place] = sides[place].run()
            seconds[place].append(time.perf_counter() - start_time)
    timings = [Timing(side.name, side.units, tuple(took)) for side, took in zip(sides, seconds, strict=True)]
    return Paired(timings[0], timings[1], (results[0], results[1]))


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
        start_time = time.perf_counter()
        for _ in range(8):
            torch.mm(left, right)
        seconds.append((time.perf_counter() - start_time) / 8)
    return 2 * rows * width * out / statistics.median(seconds)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
