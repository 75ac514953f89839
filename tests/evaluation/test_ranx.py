"""Scoring places instead of users is ranx's own answer, to the last bit, and loads quickly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.evaluation.metrics import FUNCTIONS, _ranx, outcomes, per_user
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.protocol import METRICS
from harness.protocol.requests import Targets

WHERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def lists(users: int, width: int, seed: int) -> tuple[Predictions, Targets]:
    """Lists of distinct items, some short; half of the answers stand in them."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(3 * width)[:width] for _ in range(users)])
    answers = np.where(rng.random(users) < 0.5, items[np.arange(users), rng.integers(0, width, users)], 5 * width)
    items[np.arange(width) >= rng.integers(0, 2 * width, users)[:, None]] = NO_ITEM
    scores = -np.broadcast_to(np.arange(width), items.shape).astype(float)
    return Predictions(np.arange(users), items, scores), Targets(np.arange(users), answers)


@pytest.mark.parametrize("width", [1, 4, 20, 33])
def test_every_user_gets_what_ranx_gives_them(width: int) -> None:
    predictions, targets = lists(120, width, seed=width)
    qrels = np.stack([targets.items, np.ones(120)], axis=-1)[:, None].astype(np.float64)
    falling = np.broadcast_to(np.arange(width, 0, -1), predictions.items.shape)
    run = np.stack([predictions.items, falling], axis=-1).astype(np.float64)
    for name, values in per_user(predictions, targets).items():
        metric, _, k = name.partition("@")
        assert (_ranx()[FUNCTIONS[metric]](qrels, run, k=int(k)) == values).all()


COMPILED = """
import numpy as np, ranx.metrics
from harness.evaluation import metrics
metrics._ranx = lambda: vars(ranx.metrics)
print({name: [value.hex() for value in values.tolist()] for name, values in metrics.outcomes(20).items()})
"""


@pytest.mark.nightly
def test_the_interpreter_and_numba_agree_to_the_last_bit() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILED], env=WHERE, capture_output=True, text=True, check=True)
    actual = {name: [value.hex() for value in values.tolist()] for name, values in outcomes(20).items()}
    assert done.stdout.strip() == str(actual) and set(actual) == set(METRICS)


LOADED = """
import sys
from harness.evaluation import metrics
metrics.outcomes(20)
from numba.core import config
from numba import njit
loaded = sorted({"ranx", "matplotlib", "pandas"} & set(sys.modules))
print(config.DISABLE_JIT, hasattr(njit(lambda x: x), "py_func"), loaded)
"""


def test_nothing_is_compiled_and_numba_stays_as_it_was() -> None:
    assert not hasattr(_ranx()["ndcg"].__globals__["_ndcg_parallel"], "py_func")
    done = subprocess.run([sys.executable, "-c", LOADED], env=WHERE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 True []"
