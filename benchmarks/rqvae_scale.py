"""Measures RQ-VAE codes of a whole catalogue: seconds, use of each level, and collisions before and after the rounds.

    python benchmarks/rqvae_scale.py [--items 10000] [--dim 384] [--vectors FILE.npy] [--seed 1] [--epochs 100]

prints one JSON document: TIGER's 3 x 256 without rounds and by assignment, LC-Rec's 4 x 256 by its own rounds and by
assignment. Vectors are drawn in groups of unequal size, unit length, unless a file gives them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.bench.timing import machine
from harness.core.seeding import generator
from harness.generative.item_codes import CodeTable, inspect
from harness.generative.tokenizers.rqvae import RQVAEConfig, rqvae_codes
from harness.protocol.context import RunContext

SIZE, GROUPS = 256, 400
MOST_SECONDS, MOST_COLLISIONS = 180.0, 0.01  # what is asked of the rounds
Separate = Literal["assignment", "sinkhorn", "none"]
CASES: tuple[tuple[int, float, Separate], ...] = (
    (3, 0.0, "none"),
    (3, 0.0, "assignment"),
    (4, 0.003, "sinkhorn"),
    (4, 0.003, "assignment"),
)


def vectors_like_items(items: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors in groups of unequal size, float32 (items, dim)."""
    rng = generator(seed, "bench", "rqvae")
    group = (GROUPS * rng.random(items) ** 2).astype(np.int64)
    drawn = rng.normal(size=(GROUPS, dim))[group] + 0.7 * rng.normal(size=(items, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def measure(vectors: np.ndarray, case: tuple[int, float, Separate], epochs: int, seed: int) -> dict[str, Any]:
    """One way of making codes, from training to the last round."""
    levels, sinkhorn, separate = case
    config = RQVAEConfig(epochs=epochs, sinkhorn=sinkhorn, separate=separate)
    with tempfile.TemporaryDirectory() as cache:
        began = time.monotonic()
        made = rqvae_codes(vectors, levels, SIZE, config, RunContext(seed, Path(cache)))
        seconds = time.monotonic() - began
    health = inspect(CodeTable(made.digits, (SIZE,) * levels))
    used = [level["used"] for level in health["levels"]]
    return {
        "codes": f"{levels} x {SIZE}",
        "sinkhorn": sinkhorn,
        "separate": separate,
        "seconds": round(seconds, 1),
        "used": used,
        "entropy": [round(level["entropy"], 2) for level in health["levels"]],
        "collisions_first": made.collisions_first,
        "collisions": made.collisions,
        "rounds": made.rounds,
        "loss": made.loss,
        "met": bool(seconds < MOST_SECONDS and min(used) > 1 and made.collisions < MOST_COLLISIONS),
    }


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    asked = parser.parse_args()
    given = None if asked.vectors is None else np.load(asked.vectors, allow_pickle=False)
    vectors = vectors_like_items(asked.items, asked.dim, asked.seed) if given is None else given
    cases = [measure(vectors, case, asked.epochs, asked.seed) for case in CASES]
    document = {"items": len(vectors), "dim": vectors.shape[1], "epochs": asked.epochs, "seed": asked.seed}
    print(json.dumps({**document, "cases": cases, "machine": machine()}, indent=1))


if __name__ == "__main__":
    main()
