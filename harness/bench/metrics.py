"""`harness bench metrics`: the protocol's metrics by ranx's array functions, against ranx's dictionaries.

The reference builds `Qrels` and `Run` from dictionaries and calls `evaluate`, for fewer users, whose metrics must be
bit-identical. `parts.first` is the first call in a new process with an empty numba cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

from harness.bench.timing import Options, Outcome, Side, paired
from harness.core.seeding import generator
from harness.evaluation.metrics import per_user
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import METRICS
from harness.protocol.requests import Targets

USERS, ITEMS, CATALOGUE = 25_000, 20, 20_000
FEWER = 25  # the reference has one user in this many
FRESH = """
import json, sys, time
from harness.bench.metrics import lists
from harness.evaluation.metrics import per_user
inputs = lists(*map(int, sys.argv[1:]))
start = time.perf_counter()
per_user(*inputs)
print(json.dumps(time.perf_counter() - start))
"""


def lists(users: int, items: int, seed: int) -> tuple[Predictions, Targets]:
    """Distinct items for each user, best first, and a target that is among them for half of the users."""
    rng = generator(seed, "bench", "metrics")
    steps = rng.integers(1, CATALOGUE // items, (users, items))
    listed = np.cumsum(steps, axis=1)[:, rng.permutation(items)]
    inside = listed[np.arange(users), rng.integers(0, items, users)]
    answers = np.where(rng.random(users) < 0.5, inside, CATALOGUE)
    scores = -np.broadcast_to(np.arange(items), listed.shape).astype(np.float64)
    return Predictions(np.arange(users), listed, scores), Targets(np.arange(users), answers)


def measure(options: Options) -> Outcome:
    """Runs the benchmark over `options.users` lists of `options.items` items."""
    users, items = options.users or USERS, options.items or ITEMS
    predictions, targets = lists(users, items, options.seed)
    reference_users = min(users, max(100, users // FEWER))
    timed = paired(
        Side("ranx, arrays", lambda: per_user(predictions, targets), users),
        Side("ranx, dictionaries", lambda: _dictionaries(predictions, targets, reference_users), reference_users),
        rounds=options.rounds,
    )
    candidate, reference = timed.results
    equal = {name: bool((candidate[name][:reference_users] == reference[name]).all()) for name in METRICS}
    return Outcome(
        "metrics",
        "users",
        all(equal.values()),
        timed,
        {"users": users, "items": items, "reference_users": reference_users, "seed": options.seed},
        {"equal_to_the_last_bit": equal},
        {"first": {"seconds": _first(users, items, options.seed)}},
    )


def _dictionaries(predictions: Predictions, targets: Targets, users: int) -> dict[str, np.ndarray]:
    """As in ranx's documentation."""
    from ranx import Qrels, Run, evaluate

    names = [f"u{user:09d}" for user in range(users)]  # ranx sorts them
    qrels = Qrels({name: {f"i{item}": 1} for name, item in zip(names, targets.items[:users].tolist(), strict=True)})
    width = predictions.items.shape[1]
    listed = zip(names, predictions.items[:users].tolist(), strict=True)
    run = Run({name: {f"i{item}": float(width - place) for place, item in enumerate(row)} for name, row in listed})
    scores = evaluate(qrels, run, list(METRICS), return_mean=False)
    return {name: np.asarray(scores[name]) for name in METRICS}  # type: ignore[index]


def _first(users: int, items: int, seed: int) -> float:
    """Seconds of the first call in a new process with an empty cache, without the start of Python."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "NUMBA_CACHE_DIR": empty}
        command = [sys.executable, "-c", FRESH, str(users), str(items), str(seed)]
        return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
