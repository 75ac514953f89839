"""Paired timing of a candidate against a reference, the result of a benchmark, and the machine it ran on.

A round runs both sides one after the other, in alternating order, so that other load on the machine affects both. The
ratio is the median over rounds of the ratio of rates. Rates are per unit of work, so that a slow reference can do less
work than the candidate. Each benchmark checks itself that both sides give the same result.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from harness.protocol.context import RunContext

T = TypeVar("T")
MIN_ROUNDS = 3  # minimal number of rounds for a median


@dataclass(frozen=True)
class Options:
    """Options of a benchmark; None selects the default of the benchmark."""

    dataset: str | None = None
    users: int | None = None
    items: int | None = None
    layers: int | None = None
    batch: int | None = None
    rounds: int = MIN_ROUNDS
    seed: int = 1
    width: int | None = None


@dataclass(frozen=True)
class Side:
    """One side: `run()` does `units` units of work and returns its result."""

    name: str
    run: Callable[[], Any]
    units: int


@dataclass(frozen=True)
class Timing:
    """Wall seconds of each round of one side."""

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
    """Timings of both sides, and their results of the last round."""

    candidate: Timing
    reference: Timing
    results: tuple[Any, Any] = field(repr=False)

    @property
    def ratio(self) -> float:
        """Units per second of the candidate relative to the reference: median over the rounds."""
        work = self.candidate.units / self.reference.units
        return statistics.median(
            work * reference / candidate
            for candidate, reference in zip(self.candidate.seconds, self.reference.seconds, strict=True)
        )

    def rates(self) -> dict[str, float]:
        """Units per second of both sides."""
        return {"ours": self.candidate.per_second, "reference": self.reference.per_second}


@dataclass(frozen=True)
class Outcome:
    """Result of a benchmark. `identical`: all checks of equality passed; `checks`: measured differences; `parts`:
    further measurements, each with a ratio of its own."""

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
            "ours": self.timed.candidate.document(),
            "reference": self.timed.reference.document(),
            "checks": dict(self.checks),
            "parts": dict(self.parts),
            "settings": dict(self.settings),
            "machine": machine(),
        }


def paired(candidate: Side, reference: Side, *, rounds: int = MIN_ROUNDS, warm: bool = True) -> Paired:
    """Times both sides in alternation; `warm`: one untimed run of each before. Raises ValueError for fewer than 3
    rounds."""
    if rounds < MIN_ROUNDS:
        raise ValueError(f"a median needs at least {MIN_ROUNDS} rounds, got {rounds}")
    sides = (candidate, reference)
    if warm:
        for side in sides:
            side.run()
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for turn in range(rounds):
        for place in (0, 1) if turn % 2 == 0 else (1, 0):
            took, results[place] = seconds_of(sides[place].run)
            seconds[place].append(took)
    timings = [Timing(side.name, side.units, tuple(rounds_of)) for side, rounds_of in zip(sides, seconds, strict=True)]
    return Paired(timings[0], timings[1], (results[0], results[1]))


def seconds_of(run: Callable[[], T]) -> tuple[float, T]:
    """Wall seconds of a call, and its result."""
    start_time = time.perf_counter()
    result = run()
    return time.perf_counter() - start_time, result


def bench_context(seed: int) -> RunContext:
    """The context of a benchmark: with the cache of runs, on a GPU if available."""
    import torch

    from harness.core.environment import cache_dir
    from harness.protocol.context import RunContext

    folder = cache_dir() / "artefacts"
    folder.mkdir(exist_ok=True)
    return RunContext(seed, folder, "cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """Processor, cores, threads of torch, load before the benchmark, and versions."""
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
    """Floating-point operations a second of a product (rows, width) by (width, out), the shape of a projection of a
    transformer block: median of 5."""
    import torch

    kind = getattr(torch, precision)
    first, second = torch.randn(rows, width).to(kind), torch.randn(width, out).to(kind)
    torch.mm(first, second)
    seconds = [seconds_of(lambda: [torch.mm(first, second) for _ in range(8)])[0] for _ in range(5)]
    return 8 * 2 * rows * width * out / statistics.median(seconds)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
