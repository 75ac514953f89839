"""Measures how the stages around the model grow, beside what `results/measurements/limits.md` says of them.

    python benchmarks/scale_curves.py [--sizes 10000,100000,1000000] [--stages split,trie,…] [--json]

Each stage and size runs in a process of its own: processor seconds of the stage (what stands before it is not
counted), and how far the memory of the process rose above what it held before. `growth` is the exponent between this
size and the one before, 1 for linear. Beside it stand the memory by the page's formula, and what seconds and formula
come to at the page's sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

USERS, ITEMS = 10**8, 10**7  # of the page
CATALOGUE, LENGTH, LISTED, LEVELS = 100_000, 8, 20, 4
GROUP, LOADED = 50_000, 100 * 2**20  # users of a row group; bytes that Arrow's writer loads
WIDTH, LEAD = 64, 20  # of the vectors that trees are made of; tokens before a history
SIZES = (10_000, 100_000, 1_000_000)

Work = Callable[[], Any]


def split_stage(n: int) -> Work:
    """Users are cut into training, validation and test, and fingerprinted."""
    from harness.bench.scale import drawn
    from harness.protocol.protocol import Protocol
    from harness.protocol.split import split

    data = drawn(n, CATALOGUE, 1)
    return lambda: split(data, Protocol())


def order_stage(n: int) -> Work:
    """One pass over users is cut into windows, shuffled and filled into steps."""
    from harness.bench.scale import drawn
    from harness.generative.config import StageConfig
    from harness.generative.tasks.batching import Batches

    rows = drawn(n, CATALOGUE, 1).sequences
    return lambda: Batches(rows, 21, StageConfig(), {"seqrec": 1.0}, (1, "scale")).windows(0)


def prompts_stage(n: int) -> Work:
    """The prompts of all users that are ranked, as token ids, and what they begin with."""
    from harness.generative.decoding.generate import common_prefix

    rng = np.random.default_rng(1)
    codes = rng.integers(50_000, 51_024, (CATALOGUE, LEVELS))
    histories = rng.integers(CATALOGUE, size=(n, LENGTH))
    lead = list(range(LEAD))
    return lambda: common_prefix([lead + codes[row].reshape(-1).tolist() for row in histories])


def metrics_stage(n: int) -> Work:
    """The lists of users are measured."""
    from harness.evaluation.metrics import compute_metrics
    from harness.protocol.requests import Targets

    lists, targets = _lists(n), np.random.default_rng(2).integers(CATALOGUE, size=n)
    compute_metrics(_lists(10), Targets(np.arange(10), targets[:10]))  # ranx and numba are loaded
    return lambda: compute_metrics(lists, Targets(np.arange(n), targets))


def store_stage(n: int) -> Work:
    """The lists of users are written with raw ids."""
    from harness.store.record import write_predictions

    lists, users, items = _lists(n), [f"u{i}" for i in range(n)], [f"i{i}" for i in range(CATALOGUE)]
    folder = tempfile.mkdtemp()
    return lambda: write_predictions(Path(folder) / "predictions.parquet", lists, users, items)


def trie_stage(n: int) -> Work:
    """The trie of the codes of items."""
    from harness.bench.trie import codes
    from harness.generative.trie import CodeTrie

    table = codes(n, np.random.default_rng(1))
    return lambda: CodeTrie(table)


def trees_stage(n: int) -> Work:
    """One balanced tree over item vectors, three levels of 256."""
    from eager.tree_tokenizer import tree_codes

    vectors = np.random.default_rng(1).normal(size=(n, WIDTH)).astype(np.float32)
    return lambda: tree_codes(vectors, 256, 3, order="clustered", seed=1)


STAGES: dict[str, tuple[Callable[[int], Work], int, str, Callable[[float], float]]] = {
    # the stage; how many rows the page has; rows of what; bytes, as results/measurements/limits.md derives them
    "split": (split_stage, USERS, "users", lambda n: n * 88 * LENGTH),
    "order": (order_stage, USERS, "users", lambda n: n * (112 + 8)),
    "prompts": (prompts_stage, USERS, "users", lambda n: n * (56 + LEAD * 8 + LEVELS * LENGTH * 40)),
    "metrics": (metrics_stage, USERS, "users", lambda n: n * LISTED * 20),
    "store": (store_stage, USERS, "users", lambda n: min(n, GROUP) * LISTED * 180 + n * 8 + LOADED),
    "trie": (trie_stage, ITEMS, "items", lambda n: n * 8 * (LEVELS + 9)),
    "trees": (trees_stage, ITEMS, "items", lambda n: n * (3 * 4 * 256 + 8 * WIDTH)),
}


def measure(stage: str, n: int) -> dict[str, float]:
    """One stage at one size, in a process of its own."""
    command = [sys.executable, __file__, "--child", stage, str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def child(stage: str, n: int) -> None:
    """The same in this process; prints its document."""
    work = STAGES[stage][0](n)
    before, peak, over = _resident(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begun = time.thread_time()
    kept = work()
    seconds = time.thread_time() - begun
    over.set()
    watcher.join()
    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "bytes": max(peak[0], _resident()) - before, "process_bytes": high}))
    del kept


def curves(stages: list[str], sizes: list[int]) -> list[dict[str, Any]]:
    """One row a stage and size."""
    rows: list[dict[str, Any]] = []
    for name in stages:
        _, at_scale, what, formula = STAGES[name]
        before: dict[str, Any] | None = None
        for n in sorted(set(sizes)):
            found = measure(name, n)
            row = {"stage": name, "rows": n, "of": what, **found, "model_bytes": formula(n)}
            if before is not None:
                steps = math.log(n / before["rows"])
                row["growth"] = math.log(max(found["seconds"], 1e-9) / max(before["seconds"], 1e-9)) / steps
            row["hours_at_scale"] = found["seconds"] * at_scale / n / 3600
            row["gib_at_scale"] = formula(at_scale) / 2**30
            rows.append(row)
            before = row
            print(_line(row), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The page's table."""
    head = "| stage | rows | seconds | growth | MiB | by formula, MiB | at scale, hours | GiB |"
    return "\n".join([head, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", *map(_line, rows)])


def _line(row: dict[str, Any]) -> str:
    growth = f"{row['growth']:.2f}" if "growth" in row else ""
    cells = (
        row["stage"], f"{row['rows']:,} {row['of']}", f"{row['seconds']:.2f}", growth, f"{row['bytes'] / 2**20:,.0f}",
        f"{row['model_bytes'] / 2**20:,.0f}", f"{row['hours_at_scale']:.2g}", f"{row['gib_at_scale']:,.0f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _lists(n: int) -> Any:
    from harness.protocol.predictions import Predictions

    first = np.random.default_rng(1).integers(CATALOGUE - LISTED, size=(n, 1))
    return Predictions(np.arange(n), first + np.arange(LISTED), np.tile(np.arange(LISTED, 0, -1.0), (n, 1)))


def _resident() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("STAGE", "N"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], int(asked.child[1]))
        return
    rows = curves(asked.stages.split(","), [int(size) for size in asked.sizes.split(",")])
    print(json.dumps(rows, indent=1) if asked.json else table(rows))


if __name__ == "__main__":
    main()
