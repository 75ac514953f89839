"""`harness bench metrics`: the protocol's metrics of many users, our way through ranx against ranx's dictionaries.

The usual way builds `Qrels` and `Run` from dictionaries of names and calls `evaluate`; it is measured on fewer users,
whose scores must be equal to the last bit. `parts.first` is our first call in a fresh process, numba's cache empty.
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
FEWER = 25  # the usual way does one user in so many
FRESH = """
import json, sys, time
from harness.bench.metrics import lists
from harness.evaluation.metrics import per_user
given = lists(*map(int, sys.argv[1:]))
begun = time.perf_counter()
per_user(*given)
print(json.dumps(time.perf_counter() - begun))
"""


def lists(users: int, items: int, seed: int) -> tuple[Predictions, Targets]:
    """Distinct items for each user, best first, and an answer that stands among them for half of the users."""
    rng = generator(seed, "bench", "metrics")
    steps = rng.integers(1, CATALOGUE // items, (users, items))
    listed = np.cumsum(steps, axis=1)[:, rng.permutation(items)]
    inside = listed[np.arange(users), rng.integers(0, items, users)]
    answers = np.where(rng.random(users) < 0.5, inside, CATALOGUE)
    scores = -np.broadcast_to(np.arange(items), listed.shape).astype(np.float64)
    return Predictions(np.arange(users), listed, scores), Targets(np.arange(users), answers)


def measure(options: Options) -> Outcome:
    """`--users`, `--items` (of a list)."""
    users, items = options.users or USERS, options.items or ITEMS
    predictions, targets = lists(users, items, options.seed)
    fewer = min(users, max(100, users // FEWER))
    timed = paired(
        Side("ranx, a list a place", lambda: per_user(predictions, targets), users),
        Side("ranx, dictionaries", lambda: _dictionaries(predictions, targets, fewer), fewer),
        rounds=options.rounds,
    )
    own_value, reference = timed.made
    equal = {name: bool((own_value[name][:fewer] == reference[name]).all()) for name in METRICS}
    return Outcome(
        "metrics",
        "users",
        all(equal.values()),
        timed,
        {"users": users, "items": items, "reference_users": fewer, "seed": options.seed},
        {"equal_to_the_last_bit": equal},
        {"first": {"seconds": _first(users, items, options.seed)}},
    )


def _dictionaries(predictions: Predictions, targets: Targets, users: int) -> dict[str, np.ndarray]:
    """As ranx's documentation shows it."""
    from ranx import Qrels, Run, evaluate

    names = [f"u{user:09d}" for user in range(users)]  # ranx sorts them
    qrels = Qrels({name: {f"i{item}": 1} for name, item in zip(names, targets.items[:users].tolist(), strict=True)})
    width = predictions.items.shape[1]
    listed = zip(names, predictions.items[:users].tolist(), strict=True)
    run = Run({name: {f"i{item}": float(width - place) for place, item in enumerate(row)} for name, row in listed})
    current_dict = evaluate(qrels, run, list(METRICS), return_mean=False)
    return {name: np.asarray(current_dict[name]) for name in METRICS}  # type: ignore[index]


def _first(users: int, items: int, seed: int) -> float:
    """Seconds of the first call in a fresh process, with nothing compiled anywhere; starting Python is not counted."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "NUMBA_CACHE_DIR": empty}
        command = [sys.executable, "-c", FRESH, str(users), str(items), str(seed)]
        return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
