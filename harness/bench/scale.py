"""`harness bench scale`: time and memory of popularity and first-order Markov by number of users.

Each size runs in a process of its own, for its own peak memory: random histories are split, both models are fitted and
rank both folds, the lists are audited and measured. There is no reference; the figures show whether time and memory
grow linearly.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from harness.bench.timing import seconds_of
from harness.core.seeding import generator
from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray

if TYPE_CHECKING:
    from harness.protocol.split import Split

T = TypeVar("T")
SIZES = (10_000, 100_000)
CATALOGUE = 100_000
MODELS = ("mostpop", "markov")
SHORTEST, MEAN, LONGEST = 5, 8, 100  # interactions of a user, similar to Amazon's 5-core sets


def drawn(users: int, items: int, seed: int) -> Dataset:
    """A random data set: sequence lengths with a long tail (mean 8), item popularity falling with the id."""
    rng = generator(seed, "bench", "scale")
    lengths = np.minimum(SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), users), LONGEST)
    values = (items * rng.random(int(lengths.sum())) ** 3).astype(np.int64)
    rows = RaggedArray(values, np.concatenate([[0], np.cumsum(lengths)]))
    return Dataset("drawn", tuple(f"u{n}" for n in range(users)), tuple(f"i{n}" for n in range(items)), rows)


def measure(sizes: Sequence[int], items: int = CATALOGUE, seed: int = 1) -> list[dict[str, Any]]:
    """For each size: users, interactions, seconds by stage and in total, peak memory in MiB, metrics."""
    code = "import sys; from harness.bench.scale import child; child(*map(int, sys.argv[1:]))"
    results = []
    for users in sizes:
        command = [sys.executable, "-c", code, str(users), str(items), str(seed)]
        completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(completed.stdout))
    return results


def child(users: int, items: int, seed: int) -> None:
    """Measures one size in this process and prints the result as JSON."""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # units of ru_maxrss in a MiB
    document = one_size(drawn(users, items, seed), seed)
    document["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(json.dumps(document))


def one_size(dataset: Dataset, seed: int) -> dict[str, Any]:
    """Split, then each model from fitting to metrics."""
    from harness.protocol.protocol import Protocol
    from harness.protocol.split import split

    seconds, parts = seconds_of(lambda: split(dataset, Protocol()))
    models = {name: _model(name, parts, seed) for name in MODELS}
    return {
        "users": len(dataset.users),
        "items": len(dataset.items),
        "interactions": dataset.interactions,
        "split_seconds": seconds,
        **models,
        "seconds": seconds + sum(model["seconds"] for model in models.values()),
    }


def _model(name: str, parts: Split, seed: int) -> dict[str, Any]:
    from harness.evaluation.metrics import compute_metrics, count_list_defects
    from harness.protocol.context import RunContext
    from harness.protocol.protocol import DEPTH
    from harness.registry import model_entry

    seconds = {"fit": 0.0, "recommend": 0.0, "audit": 0.0, "measure": 0.0}

    def timed(stage: str, work: Callable[..., T], *arguments: Any) -> T:
        took, result = seconds_of(lambda: work(*arguments))
        seconds[stage] += took
        return result

    model_class = model_entry(name).load()
    model: Any = model_class(model_class.config_class())
    metrics = {}
    with tempfile.TemporaryDirectory() as folder:
        context = RunContext(seed, Path(folder))
        timed("fit", model.fit, parts.train, context)
        for fold in (parts.valid, parts.test):
            lists = timed("recommend", model.recommend, fold.requests, DEPTH, context)
            timed("audit", count_list_defects, lists, fold.requests, DEPTH, parts.train.n_items)
            metrics = timed("measure", compute_metrics, lists, fold.targets)
    return {"seconds": sum(seconds.values()), "stages": seconds, "recall@10": metrics["recall@10"]}
