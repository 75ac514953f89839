"""Golden predictions: what every registered model recommends for a toy data set under its `smoke` profile.

    python -m tests.golden.predictions write FILE [--seeds 1 2 3] [--models NAME ...]
    python -m tests.golden.predictions check FILE [--seeds ...] [--models ...] [--near]

`write` before a change of code and `check` after it, on one machine and in one environment, compare bit by bit: users
and items (int64) and scores (float64) by SHA-256. `check --near` is for a file that another machine wrote, such as the
committed `predictions.json`: vector instructions and library versions move the last digits of a sum, and training
amplifies them. There equal hashes pass at once; otherwise ndcg@10 of the test users must agree within `NDCG`, and the
top-10 lists of the sampled users must share at least `OVERLAP` of their items on average.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from harness.evaluation.metrics import compute_metrics
from harness.registry import MODELS, model_entry
from harness.runs.config import ConfigFile, resolve
from tests import toys

FILE = Path(__file__).with_name("predictions.json")
K, SAMPLED = 10, 8
NDCG, OVERLAP = 0.15, 0.7
# Models trained by gradient steps learn nothing from very short histories, as in their contract suites.
SIZES: dict[str, dict[str, int]] = {
    "tiger": {"users": 24, "length": 24},
    "tiger-decoder": {"users": 24, "length": 24},
    "letter-tiger": {"users": 24, "length": 24},
    "letter-lcrec": {"length": 12},
    "p5-cid": {"users": 24, "length": 24},
    "lcrec": {"length": 12},
    "minionerec": {"length": 12},
    "eager-llm": {"length": 12},
}

Entry = dict[str, Any]


def predict(model: str, seed: int, folder: Path) -> Entry:
    """Fits `model` on the toy and ranks the test users: hashes of the predictions, ndcg@10, lists of some users."""
    entry = model_entry(model)
    split = toys.split(toys.cycle(**SIZES.get(model, {})))
    recommender = entry.load()(resolve(entry, "smoke", ConfigFile(), ()).model.resolved("cpu"))
    recommender.fit(split.train, toys.context(folder, split.valid, seed=seed))
    predictions = recommender.recommend(split.test.requests, K, toys.context(folder, seed=seed))
    every = max(1, len(predictions.cases) // SAMPLED)
    return {
        "items": _hash(predictions.cases.astype("<i8"), predictions.items.astype("<i8")),
        "scores": _hash(predictions.scores.astype("<f8")),
        "ndcg@10": round(compute_metrics(predictions, split.test.targets)["ndcg@10"], 6),
        "lists": predictions.items[::every][:SAMPLED].tolist(),
    }


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def differences(expected: Entry, actual: Entry, *, near: bool = False) -> list[str]:
    """What differs, one line each; empty where the two entries agree exactly, or closely enough with `near`."""
    unequal = [name for name in ("items", "scores") if expected[name] != actual[name]]
    if not near or not unequal:
        return [f"{name} differ" for name in unequal]
    problems = []
    if not (gap := abs(expected["ndcg@10"] - actual["ndcg@10"])) <= NDCG:
        problems.append(f"ndcg@10 differs by {gap:.3f}, allowed {NDCG}")
    if not (share := overlap(expected["lists"], actual["lists"])) >= OVERLAP:
        problems.append(f"lists share {share:.0%} of their items, expected at least {OVERLAP:.0%}")
    return problems


def overlap(one: list[list[int]], other: list[list[int]]) -> float:
    """Mean share of common items of two sets of lists; 0 where there is not one list for each user in both."""
    if len(one) != len(other) or not one:
        return 0.0
    return float(np.mean([len({*a} & {*b}) / max(len({*a}), len({*b}), 1) for a, b in zip(one, other, strict=True)]))


def main() -> int:
    import torch

    parser = argparse.ArgumentParser(description="write or check golden predictions")
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--models", nargs="+", default=[entry.name for entry in MODELS])
    parser.add_argument("--near", action="store_true", help="tolerate the float noise of another machine")
    requested = parser.parse_args()
    torch.set_num_threads(1)
    golden = json.loads(requested.file.read_text("utf-8")) if requested.action == "check" else {}
    entries: dict[str, Entry] = {}
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_HOME"] = folder
        for model in requested.models:
            for seed in requested.seeds:
                name = f"{model}/{seed}"
                entries[name] = predict(model, seed, Path(folder, f"{model}-{seed}"))
                problems = []
                if requested.action == "check":
                    expected = name in golden
                    problems = (
                        differences(golden[name], entries[name], near=requested.near) if expected else ["not in file"]
                    )
                failures += bool(problems)
                print(name, entries[name]["ndcg@10"], "; ".join(problems) or "ok", flush=True)
    if requested.action == "write":
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        requested.file.write_text(f"{{\n{rows}\n}}\n", "utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
