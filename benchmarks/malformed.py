"""Gives every reader malformed files, and tells how many of which kind came to what.

    OMP_NUM_THREADS=1 python -m benchmarks.malformed [--each 5] [--first 0] [--reader NAME …] [--kind NAME …] [--bound]
        [--json FILE]

A case is a reader, a kind of damage and a number; the same numbers give the same files, which the test suite draws from
too. Ends with code 1 where a reader raised anything but its one line, took `SECONDS` of the processor, or where the
process took 1 GiB more than before the first file. With `--bound` the kernel gives it no more address space than that.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.malformed.readers import READERS
from tests.malformed.trying import Bench, Case

SECONDS = 10.0
GIB = 1 << 30
KIB = 1024  # in which the kernel tells a process's peak
OUTCOMES = ("refused", "set aside", "read", "fault")


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--each", type=int, default=5, help="cases of a kind of damage and a reader")
    parser.add_argument("--first", type=int, default=0, help="the first number")
    parser.add_argument("--reader", action="append", help="this reader alone; repeatable")
    parser.add_argument("--kind", action="append", help="these kinds of damage alone; repeatable")
    parser.add_argument("--bound", action="store_true", help="bound the address space")
    parser.add_argument("--json", type=Path, help="a file for the table")
    asked = parser.parse_args()
    readers = [reader for reader in READERS if asked.reader is None or reader.name in asked.reader]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if asked.bound:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + GIB, size + GIB))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        cases = [
            bench.attempt(reader, kind, seed)
            for reader in readers
            for kind in reader.kinds
            if asked.kind is None or kind in asked.kind
            for seed in range(asked.first, asked.first + asked.each)
        ]
    distinct = list({case.digest: case for case in cases if case.outcome != "unchanged"}.values())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB
    bad = [case for case in distinct if case.outcome == "fault" or case.seconds > SECONDS]
    for case in bad:
        print(f"{case.reader} / {case.kind} / {case.seed}: {case.outcome}, {case.seconds:.1f} s\n{case.said}")
    told = {
        "readers": table(distinct, "reader"),
        "kinds": table(distinct, "kind"),
        "all": dict(Counter(case.outcome for case in distinct)),
        "tried": len(distinct),
        "slowest_seconds": round(max(case.seconds for case in distinct), 2),
        "grown_mib": grown >> 20,
    }
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(markdown(told["readers"], "reader"), markdown(told["kinds"], "kind of damage"), sep="\n\n")
    print(f"\n{told['tried']} malformed files: {told['all']}; slowest {told['slowest_seconds']} s, "
          f"memory grew by {told['grown_mib']} MiB")  # fmt: skip
    return 1 if bad or grown > GIB else 0


def table(cases: list[Case], by: str) -> dict[str, dict[str, int]]:
    """Outcomes by reader, or by kind."""
    found: dict[str, Counter[str]] = {}
    for case in cases:
        found.setdefault(getattr(case, by), Counter())[case.outcome] += 1
    return {name: dict(counts) for name, counts in found.items()}


def markdown(rows: dict[str, dict[str, int]], head: str) -> str:
    """As docs/reliability.md shows it."""
    lines = [f"| {head} | tried | {' | '.join(OUTCOMES)} |", "| --- |" + " ---: |" * (len(OUTCOMES) + 1)]
    for name, counts in rows.items():
        cells = [sum(counts.values()), *(counts.get(outcome, 0) for outcome in OUTCOMES)]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
