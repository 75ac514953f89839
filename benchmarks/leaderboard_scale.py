"""`harness leaderboard` over many stored runs, timed as a process: writes records of true size into a folder that is
thrown away, then prints what each format takes: wall seconds (best and median of a few), and processor seconds, which
other work on the machine does not change much.

    python -m benchmarks.leaderboard_scale [--runs 10000] [--seeds 3] [--rounds 3] [--like RESULT.json]

Each record has settings of the size of EAGER-LLM's. `--like` takes a stored run's folder as the pattern.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.protocol.protocol import METRICS

MODELS = 20
FORMATS = ("table", "csv", "json")


def main() -> None:
    """Reads the arguments, writes the store, times the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--like", type=Path, help="the folder of a stored run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = write_store(Path(folder), asked.runs, asked.seeds, pattern(asked.like))
        print(f"{asked.runs} runs, {asked.seeds} seeds a configuration, {size / asked.runs / 1024:.1f} KiB a record")
        for form in FORMATS:
            seconds = [timed(Path(folder), form) for _ in range(asked.rounds)]
            wall, busy = zip(*seconds, strict=True)
            told = f"best {min(wall):.2f} s, median {statistics.median(wall):.2f} s"
            print(f"{form:6} {told}; processor best {min(busy):.2f} s, median {statistics.median(busy):.2f} s")


def pattern(like: Path | None) -> dict[str, Any]:
    """A record to write variants of."""
    if like is not None:
        return json.loads((like / "result.json").read_text())
    from tests.store.made import document

    levels = [{"size": 256, "used": 256, "entropy": 7.99, "prefixes": 3311, "fanout": {"mean": 12.9, "most": 13}}] * 4
    stages = {name: {"loss": 1.5, "steps": 500, "seconds": 290.8} for name in ("alignment", "annealing")}
    settings = {f"part{a}": {f"key{b}": 0.1 for b in range(10)} for a in range(15)}
    return document(
        details={"model": {"index": {"levels": levels}, "stages": stages}, "sessions": 1},
        env={"packages": {f"package-{number}": "1.2.3" for number in range(80)}},
        audit={f"finding {number}": {"share": 0.01, "says": "a sentence of the audit"} for number in range(20)},
        settings={"model": "a", "dataset": "toy", "a": settings},
    )


def write_store(root: Path, runs: int, seeds: int, record: Mapping[str, Any]) -> int:
    """`runs` records of `MODELS` models, `seeds` of each configuration; the bytes of all records."""
    size = 0
    for number in range(runs):
        configuration, seed = divmod(number, seeds)
        model = f"model{configuration % MODELS}"
        values = {name: (number * 7919 % 10_007) / 20_000 for name in METRICS}
        changed = {
            **record,
            "model": model,
            "seed": seed + 1,
            "run_id": f"seed{seed + 1}-{configuration:016x}",
            "metrics": {"test": values, "valid": values},
            "details": {**record["details"], "configuration": f"{configuration:016x}"},
            "settings": {**record["settings"], "own": {"rate": configuration}},
        }
        folder = root / "runs" / model / record["dataset"]["name"] / changed["run_id"]
        folder.mkdir(parents=True)
        text = json.dumps(changed, indent=2, ensure_ascii=False) + "\n"
        (folder / "result.json").write_text(text)
        size += len(text)
    return size


def timed(root: Path, form: str) -> tuple[float, float]:
    """Wall and processor seconds of the command, from start to end of the process."""
    command = [sys.executable, "-m", "harness", "leaderboard", "--results", str(root), "--format", form]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
