"""Runs every registered model once on data sets of several sizes: seconds, peak memory and growth of each stage.

    python benchmarks/real_size.py ../shared/data/office ../shared/data/beauty [--models sasrec,tiger] [--json]

Training is cut to a few steps or epochs (`SHORT`), so that what is measured is the cost of a unit of work: of a step,
of a user ranked, of a text encoded. Vectors and codes are cached from one model to the next: each is in the rows of the
first model that needs it. A stage's growth is how much slower a unit is on the last data set than on the first; a stage
whose total is not counted in units is compared by seconds for an interaction. Memory is the largest resident size of
the run and the processes below it while the stage lasts, looked at every 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from harness.data.loading import load_dataset
from harness.registry import ModelEntry, model_entries
from harness.runs.describing import describe
from harness.store.environment import resident_bytes

SHORT = {"tuning.max_steps": 60, "training.max_steps": 60, "index.rqvae.epochs": 5, "epochs": 1, "pretrain_epochs": 1}
EVERY = 0.05  # seconds between two readings of memory


def last_stage(log: Path) -> str:
    """The stage that the run's log says is open."""
    stage = "start"
    if log.is_file():
        for line in log.read_text("utf-8", errors="ignore").splitlines():
            if '"event": "stage' in line:
                event = json.loads(line)
                stage = event["stage"] if event["event"] == "stage" else "between stages"
    return stage


def shortened(entry: ModelEntry) -> list[str]:
    """`--set` arguments of the settings in `SHORT` that the model has; a null other than "no limit" means none."""
    rows = describe(entry)["settings"]
    names = {row["name"] for row in rows if row["default"] is not None or row["name"].endswith("max_steps")}
    values = {f"{entry.section}.{key}": value for key, value in SHORT.items()}
    return [part for name, value in values.items() if name in names for part in ("--set", f"{name}={value}")]


def measured(entry: ModelEntry, dataset: str, home: Path, results: Path) -> dict[str, Any]:
    """One run: {stage: {units, seconds, peak_mb}}, or what went wrong."""
    command = [sys.executable, "-m", "harness", "run", entry.name, "-d", dataset, "--results", str(results), "--json"]
    command += shortened(entry)
    environment = {**os.environ, "HARNESS_HOME": str(home)}
    with (home / "err").open("w") as err:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, env=environment)
        process, peaks, read = psutil.Process(run.pid), {}, 0.0
        stage = "start"
        while run.poll() is None:
            if time.monotonic() - read > 10 * EVERY:
                logs = list(results.glob("runs/*/*/*/log.jsonl"))
                stage, read = (last_stage(logs[0]) if logs else "start"), time.monotonic()
            try:
                peaks[stage] = max(peaks.get(stage, 0), resident_bytes(process))
            except psutil.Error:
                break
            time.sleep(EVERY)
        run.communicate()
    if run.returncode:
        return {"error": (home / "err").read_text()[-300:]}
    (log,) = results.glob("runs/*/*/*/log.jsonl")
    stages: dict[str, Any] = {}
    for line in log.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event.get("event") == "stage end":
            row = stages.setdefault(event["stage"], {"units": 0, "seconds": 0.0, "peak_mb": None})
            row["units"] += event.get("step") or 0
            row["seconds"] += event["seconds"]
    for name, row in stages.items():
        row["peak_mb"] = round(peaks[name] / 2**20) if name in peaks else None
    return stages


def growth(first: dict[str, Any], last: dict[str, Any], sizes: tuple[int, int]) -> float | None:
    """How many times the cost of a unit on the first data set a unit costs on the last."""
    units = (first["units"], last["units"]) if first["units"] and last["units"] else sizes
    costs = (first["seconds"] / units[0], last["seconds"] / units[1])
    return round(costs[1] / costs[0], 2) if costs[0] > 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--models", help="names, separated by commas; default: all")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    entries = model_entries()
    names = asked.models.split(",") if asked.models else list(entries)
    sizes = [int(load_dataset(name).sequences.lengths.sum()) for name in asked.datasets]
    table: dict[str, Any] = {}
    home = Path(tempfile.mkdtemp(prefix="real-size-"))
    for name in names:
        runs = []
        for dataset in asked.datasets:
            with tempfile.TemporaryDirectory() as folder:
                runs.append(measured(entries[name], dataset, home, Path(folder)))
        table[name] = dict(zip(asked.datasets, runs, strict=True))
        for stage in runs[-1]:
            rows = [run.get(stage) for run in runs]
            if any(not isinstance(row, dict) for row in rows):
                print(f"{name:10} {stage:24} {rows}", file=sys.stderr, flush=True)
                continue
            grown = growth(rows[0], rows[-1], (sizes[0], sizes[-1])) if len(rows) > 1 else None
            text = "  ".join(f"{row['seconds']:8.2f} s {row['peak_mb'] or '':>6} MB" for row in rows)
            print(f"{name:10} {stage:24} {text}  a unit x {grown}", file=sys.stderr, flush=True)
    if asked.json:
        print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
